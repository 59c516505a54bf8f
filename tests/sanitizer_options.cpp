// What the sanitizers do by default in test programs, also in one started by hand. ASAN_OPTIONS and its like still win.
// Without a sanitizer nothing calls these.

extern "C" const char* __asan_default_options();
extern "C" const char* __ubsan_default_options();
extern "C" const char* __tsan_default_options();

// Use after return is found by moving frames to a heap of their own: the switch must carry that heap per thread, which
// is worth testing too.
extern "C" const char* __asan_default_options() { return "detect_leaks=1:detect_stack_use_after_return=1"; }
extern "C" const char* __ubsan_default_options() { return "print_stacktrace=1"; }
extern "C" const char* __tsan_default_options() { return "second_deadlock_stack=1"; }
