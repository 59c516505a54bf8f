// hello: the smallest weft program that does something.
//
// It shows: weft::run, which makes the calling kernel thread a processor for user-level threads and returns when its function
// does; two threads, made and joined as std::jthread is, that talk through an unbuffered channel until it is closed; a sleep
// that holds up only the thread that sleeps. What it prints is always the same: a value sent is a value received, in order.
//
//   build/release/demos/hello        prints: hello, from, two, threads, a line each
#include <chrono>
#include <iostream>
#include <weft/channel.hpp>
#include <weft/runtime.hpp>
#include <weft/thread.hpp>

int main() {
  weft::run([] {
    weft::channel<const char*> words;
    weft::jthread speaker({.name = "speaker"}, [&] {
      for (const char* word : {"hello", "from", "two", "threads"}) {
        words.send(word);
        weft::this_thread::sleep_for(std::chrono::milliseconds(5));  // blocks the speaker only
      }
      words.close();
    });
    weft::jthread listener({.name = "listener"}, [&] {
      for (const char* word : words) std::cout << word << '\n';
    });
  });
}
