/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages that a clone writes before its agent has answered are nearly the same for every clone of
 * a snapshot. The first one leaves a list of them beside the snapshot; the others have them copied
 * in a few calls, before there is a VM, instead of in a fault out of the guest for each, which is
 * often two: for reading and then for writing. Pages that are only read are not listed: they are in
 * the page cache, and to map them ahead was measured to cost more than it saves.
 *
 * It is advice. A list that is wrong costs time and some memory, never a wrong byte, so it is not
 * synced and not part of the snapshot's sums.
 */
#include <stdlib.h>
#include <string.h>

#include "snapshot/files.h"

#define WRITTEN	   "written" /* section: pairs of first page and count */
#define PAGES_MAX  4096u     /* more is no start, but a guest that does something */
#define SUM_LEN	   2u	     /* the state's sum, as two words, comes first */

static void words_of(uint64_t sum, uint32_t words[SUM_LEN])
{
	memcpy(words, &sum, sizeof(sum));
}

/* Whether the list is this snapshot's, and one that can be followed. */
static bool usable(const struct snapshot *s, const uint32_t *word, uint32_t n)
{
	const struct memfile_extent *x = (const void *)(word + SUM_LEN);
	uint32_t sum[SUM_LEN], extents = (n - SUM_LEN) / 2;
	uint64_t pages = 0;

	words_of(s->m.state_sum, sum);
	if (n < SUM_LEN || memcmp(word, sum, sizeof(sum)) ||
	    memfile_check_extents(x, extents, s->m.memory))
		return false;
	for (uint32_t i = 0; i < extents; i++)
		pages += x[i].count;
	return pages <= PAGES_MAX;
}

bool snapshot_populate(const struct snapshot *s, const struct mem *m)
{
	struct state_section section;
	struct state_reader reader;
	struct err ignored;
	const uint8_t *array;
	uint32_t *word = NULL, n;
	uint8_t *data;
	size_t len;
	bool good = false;

	if (snapshot_read_file(s->dir, FILE_WORKSET, &data, &len, &ignored))
		return false;
	if (!state_open(&reader, data, len, SNAPSHOT_WORKSET_KIND, FILE_WORKSET, &ignored) &&
	    !state_find(&reader, WRITTEN, 0, &section, &ignored) &&
	    !state_load_array(&section, sizeof(*word), &array, &n, &ignored))
		word = malloc((size_t)n * sizeof(*word) + 1);
	if (word) {
		memcpy(word, array, (size_t)n * sizeof(*word)); /* it is not aligned in the file */
		good = usable(s, word, n);
	}
	if (good)
		memfile_populate(m, (const void *)(word + SUM_LEN), (n - SUM_LEN) / 2);
	free(word);
	free(data);
	return good;
}

void snapshot_record(const struct snapshot *s, const struct mem *m)
{
	struct memfile_extent *x = NULL;
	struct state_writer w;
	struct err ignored;
	uint32_t n, *word;

	memfile_gather(m);
	if (memfile_written(m, &x, &n))
		return;
	word = malloc((SUM_LEN + 2 * (size_t)n) * sizeof(*word));
	if (word && n <= MEMFILE_EXTENTS) {
		words_of(s->m.state_sum, word);
		memcpy(word + SUM_LEN, x, n * sizeof(*x));
		state_begin(&w, SNAPSHOT_WORKSET_KIND);
		state_save_array(&w, WRITTEN, 0, word, sizeof(*word), SUM_LEN + 2 * n);
		if (!state_finish(&w, &ignored))
			files_replace(s->dir, FILE_WORKSET, w.data, w.len, &ignored);
		state_discard(&w);
	}
	free(word);
	free(x);
}
