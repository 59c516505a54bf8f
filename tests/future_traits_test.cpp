// What the types of results can do, and what they cannot: the same as those of the standard library.
#include <doctest/doctest.h>

#include <future>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

#include "weft/future.hpp"

namespace {

// What two types have in common, one of ours and one of the standard library's.
template <class Ours, class Theirs>
constexpr bool moves_alike() {
  static_assert(std::is_default_constructible_v<Ours> == std::is_default_constructible_v<Theirs>);
  static_assert(std::is_nothrow_default_constructible_v<Ours> == std::is_nothrow_default_constructible_v<Theirs>);
  static_assert(std::is_copy_constructible_v<Ours> == std::is_copy_constructible_v<Theirs>);
  static_assert(std::is_nothrow_copy_constructible_v<Ours> == std::is_copy_constructible_v<Theirs>);
  static_assert(std::is_copy_assignable_v<Ours> == std::is_copy_assignable_v<Theirs>);
  static_assert(std::is_nothrow_copy_assignable_v<Ours> == std::is_copy_assignable_v<Theirs>);  // libstdc++ 12 leaves it out
  static_assert(std::is_nothrow_move_constructible_v<Ours> == std::is_nothrow_move_constructible_v<Theirs>);
  static_assert(std::is_nothrow_move_assignable_v<Ours> == std::is_nothrow_move_assignable_v<Theirs>);
  static_assert(std::is_nothrow_destructible_v<Ours> == std::is_nothrow_destructible_v<Theirs>);
  static_assert(std::is_swappable_v<Ours> == std::is_swappable_v<Theirs>);
  static_assert(std::is_nothrow_swappable_v<Ours> == std::is_nothrow_swappable_v<Theirs>);
  static_assert(!std::is_polymorphic_v<Ours>);
  return true;
}

template <class R>
constexpr bool alike() {
  static_assert(moves_alike<weft::promise<R>, std::promise<R>>());
  static_assert(moves_alike<weft::future<R>, std::future<R>>());
  static_assert(moves_alike<weft::shared_future<R>, std::shared_future<R>>());
  static_assert(noexcept(std::declval<weft::promise<R>&>().swap(std::declval<weft::promise<R>&>())));
  static_assert(noexcept(std::declval<weft::future<R>&>().share()));
  static_assert(noexcept(std::declval<weft::future<R>&>().valid()));
  static_assert(std::is_same_v<decltype(std::declval<weft::future<R>&>().get()),
                               decltype(std::declval<std::future<R>&>().get())>);
  static_assert(std::is_same_v<decltype(std::declval<weft::shared_future<R>&>().get()),
                               decltype(std::declval<std::shared_future<R>&>().get())>);
  static_assert(std::is_same_v<decltype(std::declval<weft::promise<R>&>().get_future()), weft::future<R>>);
  static_assert(std::is_same_v<decltype(std::declval<weft::future<R>&>().share()), weft::shared_future<R>>);
  static_assert(std::is_convertible_v<weft::future<R>, weft::shared_future<R>>);
  static_assert(std::is_nothrow_constructible_v<weft::shared_future<R>, weft::future<R>>);
  static_assert(!std::is_constructible_v<weft::shared_future<R>, const weft::future<R>&>);
  static_assert(!std::is_constructible_v<weft::future<R>, weft::shared_future<R>>);
  static_assert(std::is_constructible_v<weft::promise<R>, std::allocator_arg_t, std::allocator<char>>);
  static_assert(std::uses_allocator_v<weft::promise<R>, std::allocator<char>>);
  return true;
}

static_assert(alike<int>() && alike<void>() && alike<int&>() && alike<std::unique_ptr<int>>() && alike<const std::string>());

using task = weft::packaged_task<int(char, std::string&)>;
using std_task = std::packaged_task<int(char, std::string&)>;
[[maybe_unused]] int function(char, std::string&) { return 0; }

static_assert(moves_alike<task, std_task>());
static_assert(noexcept(std::declval<task&>().valid()));
static_assert(std::is_constructible_v<task, int (*)(char, std::string&)>);
static_assert(!std::is_convertible_v<int (*)(char, std::string&), task>, "the constructor is explicit, as theirs");
static_assert(!std::is_convertible_v<int (*)(char, std::string&), std_task>);
static_assert(!std::is_constructible_v<task, const task&>);
static_assert(std::is_void_v<std::invoke_result_t<task&, char, std::string&>>);
static_assert(!std::is_invocable_v<task&, char>);

// Deduction guides.
template <class F>
using deduced = decltype(weft::packaged_task(std::declval<F>()));
template <class F>
using deduced_by_std = decltype(std::packaged_task(std::declval<F>()));
template <class F, class Signature>
constexpr bool deduces = std::is_same_v<deduced<F>, weft::packaged_task<Signature>> &&
                         std::is_same_v<deduced_by_std<F>, std::packaged_task<Signature>>;

struct by_reference {
  long operator()(int) &;
};
struct by_constant_reference {
  long operator()(int, char) const& noexcept;
};
struct by_volatile {
  void operator()() volatile;
};
constexpr auto plain = [](int) { return 1.0; };
constexpr auto changing = [](int) mutable noexcept {};

static_assert(deduces<decltype(&function), int(char, std::string&)>);
static_assert(deduces<decltype(plain), double(int)>);
static_assert(deduces<decltype(changing), void(int)>);
static_assert(deduces<by_reference, long(int)>);
static_assert(deduces<by_constant_reference, long(int, char)>);
static_assert(std::is_same_v<deduced<by_volatile>, weft::packaged_task<void()>>);  // libstdc++ 12 leaves it out
static_assert(std::is_same_v<deduced<weft::packaged_task<int()>>, weft::packaged_task<int()>>);

// async: decayed copies decide what is called.
struct moved_into {
  int operator()(std::unique_ptr<int>&&) &&;
};
static_assert(std::is_same_v<decltype(weft::async(moved_into{}, std::unique_ptr<int>{})), weft::future<int>>);
static_assert(std::is_same_v<decltype(weft::async(weft::launch::deferred, plain, 1)), weft::future<double>>);
template <class... A>
concept launches = requires(A&&... a) { weft::async(std::forward<A>(a)...); };
static_assert(!launches<int> && !launches<weft::launch> && !launches<decltype(plain), std::string>);
static_assert(launches<weft::launch, decltype(plain), int> && launches<decltype(plain), int>);

static_assert(std::is_same_v<weft::future_error, std::future_error> && std::is_same_v<weft::future_status, std::future_status>);

}  // namespace

TEST_CASE("an error of a future names its category and code as the standard library's do") {
  const weft::future_error error(weft::future_errc::no_state);
  CHECK(error.code() == weft::future_errc::no_state);
  CHECK(error.code().category() == weft::future_category());
}
