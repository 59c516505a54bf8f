// The peer libuv: an echo server of callbacks, as its guide writes one.
#include <uv.h>

#include <array>

#include "echo_load.hpp"
#include "measure.hpp"
#include "program.hpp"

namespace {

struct connection {
  uv_tcp_t stream{};
  uv_write_t write{};
  std::array<char, 4096> buffer{};
};

connection& connection_of(void* stream) { return *static_cast<connection*>(static_cast<uv_handle_t*>(stream)->data); }

void lend_buffer(uv_handle_t* stream, std::size_t, uv_buf_t* buffer) {
  connection& on = connection_of(stream);
  *buffer = uv_buf_init(on.buffer.data(), sizeof on.buffer);
}

void answer(uv_stream_t* stream, ssize_t got, const uv_buf_t* request) {
  connection& on = connection_of(stream);
  if (got > 0) {
    const uv_buf_t reply = uv_buf_init(request->base, static_cast<unsigned>(got));
    uv_write(&on.write, stream, &reply, 1, nullptr);
  } else if (got < 0) {
    uv_close(reinterpret_cast<uv_handle_t*>(stream), [](uv_handle_t* closed) { delete &connection_of(closed); });
  }
}

void accept(uv_stream_t* listener, int status) {
  if (status < 0) bench::fail(uv_strerror(status));
  auto* const on = new connection;
  auto* const stream = reinterpret_cast<uv_stream_t*>(&on->stream);
  uv_tcp_init(listener->loop, &on->stream);
  on->stream.data = on;
  if (const int error = uv_accept(listener, stream)) bench::fail(uv_strerror(error));
  uv_tcp_nodelay(&on->stream, 1);
  uv_read_start(stream, lend_buffer, answer);
}

void serve(int listening_socket) {
  uv_loop_t* const loop = uv_default_loop();
  uv_tcp_t listener;
  uv_tcp_init(loop, &listener);
  uv_tcp_open(&listener, listening_socket);
  constexpr int backlog = 4096;
  if (const int error = uv_listen(reinterpret_cast<uv_stream_t*>(&listener), backlog, accept)) bench::fail(uv_strerror(error));
  uv_run(loop, UV_RUN_DEFAULT);
}

}  // namespace

int main(int argc, char** argv) { return bench::run_row(argc, argv, {bench::echo_rows(serve)}); }
