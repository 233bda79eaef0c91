//go:build cgo

// libndctl is loaded when it is needed: it and the libraries below it take as long to
// load as the rest of the program, and most commands do without.

#include "optional.h"
#include "functions.h"

__attribute__((visibility("hidden"))) void *libndctl;

#define POINTER(result, name, parameters, arguments) static __typeof__(&name) p_##name;
FUNCTIONS(POINTER)

// Hidden, or the library would call them in place of its own.
#define FORWARD(result, name, parameters, arguments) \
	__attribute__((visibility("hidden"))) result name parameters { return p_##name arguments; }
FUNCTIONS(FORWARD)

const char *open_libndctl(void) {
	libndctl = dlopen("libndctl.so.6", RTLD_LAZY | RTLD_LOCAL);
	if (libndctl == NULL)
		return dlerror();
#define FIND(result, name, parameters, arguments) \
	p_##name = (__typeof__(p_##name)) dlsym(libndctl, #name); \
	if (p_##name == NULL) \
		return dlerror();
	FUNCTIONS(FIND)
	return NULL;
}
