#include "find_files.hpp"

#include <algorithm>
#include <filesystem>
#include <system_error>
#include <utility>

namespace {

namespace fs = std::filesystem;

std::string sentence(const std::string& verb, const std::string& path, const std::error_code& why) {
  return "cannot " + verb + " '" + path + "': " + why.message();
}

void walk(const std::string& top, found_files& found) {
  std::vector<std::string> directories{top};
  while (!directories.empty()) {
    const std::string here = std::move(directories.back());
    directories.pop_back();
    std::error_code ec;
    for (fs::directory_iterator entry(here, ec); !ec && entry != fs::directory_iterator(); entry.increment(ec)) {
      std::error_code unknown;
      const fs::file_type type = entry->symlink_status(unknown).type();
      const std::string path = here + (here.ends_with('/') ? "" : "/") + entry->path().filename().string();
      if (type == fs::file_type::directory) {
        directories.push_back(path);
      } else if (type == fs::file_type::regular) {
        found.paths.push_back(path);
      } else if (type != fs::file_type::symlink) {
        found.skipped.push_back(path);
      }
    }
    if (ec) found.troubles.push_back(sentence("read the directory", here, ec));
  }
}

const char* kind_of(fs::file_type type) {
  switch (type) {
    case fs::file_type::fifo:
      return "a pipe (FIFO)";
    case fs::file_type::socket:
      return "a socket";
    default:
      return "a device";
  }
}

void look_at(const std::string& path, found_files& found) {
  if (path == "-") {
    found.troubles.emplace_back("standard input ('-') is not searched; a file of that name is ./-");
    return;
  }
  std::error_code ec;
  const fs::file_type type = fs::status(path, ec).type();
  if (ec) {
    found.troubles.push_back(sentence("search", path, ec));
  } else if (type == fs::file_type::directory) {
    walk(path, found);
  } else if (type == fs::file_type::regular) {
    found.paths.push_back(path);
  } else {
    found.troubles.push_back("'" + path + "' is " + kind_of(type) + ", not a file: skipped");
  }
}

}  // namespace

found_files find_files(const std::vector<std::string>& paths) {
  found_files found;
  for (const std::string& path : paths) {
    const auto before = static_cast<std::ptrdiff_t>(found.paths.size());
    look_at(path, found);
    std::sort(found.paths.begin() + before, found.paths.end());
  }
  return found;
}

void thin_out(std::vector<std::string>& paths, std::size_t limit) {
  const std::size_t all = paths.size();
  if (limit == 0 || all <= limit) return;
  for (std::size_t i = 0; i < limit; ++i) std::swap(paths[i], paths[i * all / limit]);  // i <= i * all / limit
  paths.resize(limit);
}
