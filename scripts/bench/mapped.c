// mapped FILE read|write MIB SECONDS: random 4 KiB reads or durable writes through
// a MAP_SYNC mapping of the first MIB of FILE, a file on a DAX mount or a devdax
// device. A write is done when it is fenced: with MAP_SYNC nothing else is needed.
// Prints operations per second, and the page faults that touching all of it took:
// one per 2 MiB where the kernel maps huge pages.
#define _GNU_SOURCE
#include <emmintrin.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <time.h>

enum { block = 4096, batch = 512 };

static double now(void) {
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static long faults(void) {
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	return u.ru_minflt + u.ru_majflt;
}

static void write_block(char *to, __m128i v) {
	for (int i = 0; i < block; i += (int)sizeof v)
		_mm_stream_si128((__m128i *)(to + i), v);
	_mm_sfence();
}

int main(int argc, char **argv) {
	if (argc != 5) {
		fprintf(stderr, "usage: mapped FILE read|write MIB SECONDS\n");
		return 2;
	}
	int writes = strcmp(argv[2], "write") == 0;
	size_t length = strtoul(argv[3], NULL, 10) << 20;
	double seconds = atof(argv[4]);
	int fd = open(argv[1], O_RDWR);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	// MAP_SHARED_VALIDATE: an error where MAP_SYNC cannot be had.
	char *map = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_SHARED_VALIDATE | MAP_SYNC, fd, 0);
	if (map == MAP_FAILED) {
		perror("mmap with MAP_SYNC");
		return 1;
	}
	long before = faults();
	for (size_t at = 0; at < length; at += block)
		*(volatile char *)(map + at) = 1;
	long touched = faults() - before;

	static char buffer[block] __attribute__((aligned(64)));
	uint64_t random = 88172645463325252u, done = 0, sum = 0;
	double start = now(), end;
	do {
		for (int i = 0; i < batch; i++) {
			random ^= random << 13, random ^= random >> 7, random ^= random << 17; // xorshift64
			char *at = map + random % (length / block) * block;
			if (writes) {
				write_block(at, _mm_set1_epi64x((long long)random));
			} else {
				memcpy(buffer, at, block);
				sum += (unsigned char)buffer[random % block];
			}
		}
		done += batch;
	} while ((end = now()) - start < seconds);
	printf("%.0f %ld\n", done / (end - start), touched);
	return sum == 1; // never; keeps the reads
}
