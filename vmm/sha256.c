/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "vmm/util.h"

#define PIECE (256u << 10)

/* Section 4.2.2. */
static const uint32_t k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4,
	0xab1c5ed5, 0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe,
	0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f,
	0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7,
	0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc,
	0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85, 0xa2bfe8a1, 0xa81a664b,
	0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116,
	0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7,
	0xc67178f2,
};

static uint32_t rotate(uint32_t x, unsigned int by)
{
	return x >> by | x << (32 - by);
}

/* Section 6.2.2. The eight working variables stay where they are, and change their roles. */
#define ROUND(a, b, c, d, e, f, g, h, t)                                                           \
	do {                                                                                       \
		uint32_t t1 = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) +                 \
			      ((e & f) ^ (~e & g)) + k[t] + w[t];                                  \
                                                                                                   \
		d += t1;                                                                           \
		h = t1 + (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) +                          \
		    ((a & b) ^ (a & c) ^ (b & c));                                                 \
	} while (0)

static void add_blocks(uint32_t state[8], const uint8_t *block, size_t n)
{
	uint32_t w[64];

	for (; n; n--, block += 64) {
		uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4],
			 f = state[5], g = state[6], h = state[7];

		for (unsigned int t = 0; t < 16; t++)
			w[t] = (uint32_t)block[4 * t] << 24 | (uint32_t)block[4 * t + 1] << 16 |
			       (uint32_t)block[4 * t + 2] << 8 | block[4 * t + 3];
		for (unsigned int t = 16; t < 64; t++)
			w[t] = (rotate(w[t - 2], 17) ^ rotate(w[t - 2], 19) ^ w[t - 2] >> 10) +
			       w[t - 7] +
			       (rotate(w[t - 15], 7) ^ rotate(w[t - 15], 18) ^ w[t - 15] >> 3) +
			       w[t - 16];
		for (unsigned int t = 0; t < 64; t += 8) {
			ROUND(a, b, c, d, e, f, g, h, t);
			ROUND(h, a, b, c, d, e, f, g, t + 1);
			ROUND(g, h, a, b, c, d, e, f, t + 2);
			ROUND(f, g, h, a, b, c, d, e, t + 3);
			ROUND(e, f, g, h, a, b, c, d, t + 4);
			ROUND(d, e, f, g, h, a, b, c, t + 5);
			ROUND(c, d, e, f, g, h, a, b, t + 6);
			ROUND(b, c, d, e, f, g, h, a, t + 7);
		}
		state[0] += a;
		state[1] += b;
		state[2] += c;
		state[3] += d;
		state[4] += e;
		state[5] += f;
		state[6] += g;
		state[7] += h;
	}
}

void sha256_begin(struct sha256 *s)
{
	*s = (struct sha256){.h = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f,
				   0x9b05688c, 0x1f83d9ab, 0x5be0cd19}};
}

void sha256_add(struct sha256 *s, const void *data, size_t len)
{
	const uint8_t *p = data;

	while (len) {
		size_t have = s->len % 64, n = MIN(len, 64 - have);

		if (n == 64) {
			n = len / 64 * 64;
			add_blocks(s->h, p, len / 64);
		} else {
			memcpy(s->block + have, p, n);
			if (have + n == 64)
				add_blocks(s->h, s->block, 1);
		}
		s->len += n;
		p += n;
		len -= n;
	}
}

void sha256_end(struct sha256 *s, char hex[SHA256_HEX + 1])
{
	static const uint8_t one[64] = {0x80};
	static const char digit[] = "0123456789abcdef";
	uint64_t bits = __builtin_bswap64(s->len * 8);

	sha256_add(s, one, 1 + (119 - s->len % 64) % 64);
	sha256_add(s, &bits, sizeof(bits));
	for (unsigned int i = 0; i < SHA256_HEX; i++)
		hex[i] = digit[s->h[i / 8] >> (28 - 4 * (i % 8)) & 15];
	hex[SHA256_HEX] = 0;
}

int sha256_file(int fd, char hex[SHA256_HEX + 1], uint64_t *size)
{
	uint8_t *piece = malloc(PIECE);
	struct sha256 s;
	ssize_t n = 0;

	if (!piece)
		return -ENOMEM;
	sha256_begin(&s);
	do {
		n = pread(fd, piece, PIECE, (off_t)s.len);
		if (n > 0)
			sha256_add(&s, piece, (size_t)n);
	} while (n > 0 || (n < 0 && errno == EINTR));
	n = n < 0 ? -errno : 0;
	free(piece);
	*size = s.len;
	sha256_end(&s, hex);
	return (int)n;
}
