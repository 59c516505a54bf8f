// Text as JSON wants it.
#pragma once

#include <string>
#include <string_view>

namespace weft::trace {

/// Appends `text` to `to` as a JSON string with its quotes. Control characters are escaped; each byte that is not part of
/// well-formed UTF-8 becomes U+FFFD, so any bytes at all make a valid document.
void append_json_string(std::string& to, std::string_view text);

}  // namespace weft::trace
