// The real source of upcalls, both engines, in random order: transfers of random sizes on many pipes and sockets, cancelled,
// closed and made anew at random. What was written must arrive, in order and whole, and nobody may wait for ever.
// Iterations are counted, never timed. WEFT_SEED=n repeats one.
#include <cstdlib>
#include <random>
#include <string_view>

#include "tests/engine_fixture.hpp"

using weft::upcall::opcode;

namespace {

// A one-way connection, what travels through it, and the two requests that work on it.
class lane {
 public:
  lane(engine& e, std::mt19937_64& random) : e_(e), random_(random) { make(); }
  ~lane() {
    for (const int fd : {in_, out_}) ::close(fd);
  }
  lane(const lane&) = delete;
  lane& operator=(const lane&) = delete;

  void step() {
    if (reader_ != nullptr && reader_->done()) take();
    if (writer_ != nullptr && writer_->done()) taken();
    switch (random_() % 64) {
      case 0:
        if (reader_ != nullptr && !reader_->done()) e_.cancel(*reader_);
        break;
      case 1:
        if (writer_ != nullptr && !writer_->done()) e_.cancel(*writer_);
        break;
      case 2:
        if (random_() % 8 == 0) remake();
        break;
      default:
        break;
    }
    if (reader_ == nullptr) read();
    if (writer_ == nullptr && random_() % 4 != 0) write();
  }
  /// Ends both requests.
  void end() {
    for (request* const each : {reader_.get(), writer_.get()}) {
      if (each == nullptr) continue;
      if (!each->done()) e_.cancel(*each);
      e_.finish(*each);
    }
    reader_.reset();
    writer_.reset();
  }
  [[nodiscard]] std::uint64_t arrived() const { return arrived_; }

 private:
  void make() {
    kind_ = random_() % 3;
    if (kind_ == 0) {
      pipe_pair p(random_() % 2 == 0 ? O_CLOEXEC : O_CLOEXEC | O_NONBLOCK);
      in_ = p.take(0);
      out_ = p.take(1);
    } else if (kind_ == 1) {
      socket_pair s;
      in_ = s.take(0);
      out_ = s.take(1);
    } else {
      tcp_pair s;
      in_ = s.take(0);
      out_ = s.take(1);
    }
    owned_ = random_() % 4 != 0;
    sent_ = received_ = 0;
  }
  void remake() {
    const bool writing = writer_ != nullptr && !writer_->done();
    CHECK(e_.close(out_) == 0);
    if (writing) CHECK(e_.finish(writer_) <= 0);
    while (reader_ == nullptr || e_.finish(reader_) > 0 || reader_->result == -ECANCELED) {  // what was sent still arrives
      if (reader_ != nullptr) take();
      read();
    }
    CHECK(reader_->result == 0);
    CHECK(received_ == sent_);
    CHECK(e_.close(in_) == 0);
    reader_.reset();
    writer_.reset();
    make();
  }
  opcode in_code() { return kind_ != 0 && random_() % 2 == 0 ? opcode::receive : opcode::read; }
  opcode out_code() { return kind_ != 0 && random_() % 2 == 0 ? opcode::send : opcode::write; }

  void read() {
    reader_ = made(in_code(), in_, size(), owned_);
    e_.start(reader_);
  }
  void write() {
    std::string text(size(), '\0');
    for (std::size_t i = 0; i < text.size(); ++i) text[i] = static_cast<char>((sent_ + i) * 131 >> 3);
    writer_ = made(out_code(), out_, text, owned_);
    e_.start(writer_);
  }
  void take() {
    if (reader_->result > 0) {
      const auto n = static_cast<std::uint64_t>(reader_->result);
      bool same = true;
      for (std::uint64_t i = 0; i < n; ++i) same = same && reader_->data[i] == static_cast<char>((received_ + i) * 131 >> 3);
      CHECK(same);
      received_ += n;
      arrived_ += n;
    } else {
      CHECK(reader_->result == -ECANCELED);
    }
    reader_.reset();
  }
  void taken() {
    if (writer_->result > 0) {
      sent_ += static_cast<std::uint64_t>(writer_->result);
    } else {
      CHECK(writer_->result == -ECANCELED);
    }
    writer_.reset();
  }
  std::size_t size() {
    const std::uint64_t r = random_();
    return static_cast<std::size_t>(r % 8 == 0 ? 1 + r / 8 % 200'000 : 1 + r / 8 % 300);
  }

  engine& e_;
  std::mt19937_64& random_;
  std::uint64_t kind_ = 0;
  bool owned_ = true;
  int in_ = -1;
  int out_ = -1;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
  std::uint64_t arrived_ = 0;
  std::unique_ptr<request> reader_;
  std::unique_ptr<request> writer_;
};

// Sanitizers look at every byte, and make each round some thirty times slower.
const bool watched = std::string_view(WEFT_TEST_SANITIZER) != "none";
const int rounds = watched ? 200 : 1500;

std::vector<std::uint64_t> seeds() {
  if (const char* const one = std::getenv("WEFT_SEED")) return {std::strtoull(one, nullptr, 10)};
  if (watched) return {1};
  return {1, 2, 3};
}

}  // namespace

TEST_CASE("in any order of transfers, cancellations and closes, everything arrives and nobody waits for ever") {
  for (const std::uint64_t seed : seeds()) {
    CAPTURE(seed);
    with_each_engine([&](engine& e) {
      std::mt19937_64 random(seed);
      std::vector<std::unique_ptr<lane>> lanes;
      for (int i = 0; i < 40; ++i) lanes.push_back(std::make_unique<lane>(e, random));
      for (int round = 0; round < rounds; ++round) {
        for (std::uint64_t i = 1 + random() % lanes.size(); i > 0; --i) lanes[random() % lanes.size()]->step();
        if (random() % 8 == 0) e.others = !e.others;
        e.order.clear();
        e.poll();
        if (e.order.empty() && random() % 16 == 0) e.source().wait(weft::clock::now());
      }
      std::uint64_t arrived = 0;
      for (const auto& each : lanes) {
        each->end();
        arrived += each->arrived();
      }
      CHECK(arrived > static_cast<std::uint64_t>(rounds) * 60);
    });
  }
}
