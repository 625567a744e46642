/* SPDX-License-Identifier: Apache-2.0 */
#include "vmm/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "vmm/opt.h"
#include "vmm/sock.h"
#include "vmm/util.h"

#define DEFAULT_MTU 1500u
#define PASST_MTU   65520u /* it has no link's limit, and each frame is work */

/* What a guest behind passt gets unless the user says otherwise. passt sends what goes to the last to
 * the host's resolver.
 */
#define PASST_IP      "10.0.2.15"
#define PASST_PREFIX  24u
#define PASST_GATEWAY "10.0.2.2"
#define PASST_DNS     "10.0.2.3"

/* --- the option --- */

static int family_of(const char *text)
{
	uint8_t address[16];

	if (inet_pton(AF_INET, text, address) == 1)
		return 0;
	return inet_pton(AF_INET6, text, address) == 1 ? 1 : -1;
}

static int set_mac(void *to, char *value, struct err *e)
{
	struct net_config *c = to;
	unsigned int b[6];
	char end;

	if (strspn(value, "0123456789abcdefABCDEF:") != 17 || value[17] ||
	    sscanf(value, "%2x:%2x:%2x:%2x:%2x:%2x%c", &b[0], &b[1], &b[2], &b[3], &b[4], &b[5],
		   &end) != 6)
		return err_set(e, EINVAL, "'%s' is not a MAC address", value);
	if (b[0] & 1 || !(b[0] | b[1] | b[2] | b[3] | b[4] | b[5]))
		return err_set(e, EINVAL, "'%s' is no single host's MAC address", value);
	for (unsigned int i = 0; i < 6; i++)
		c->mac[i] = (uint8_t)b[i];
	c->has_mac = true;
	return 0;
}

static int set_mtu(void *to, char *value, struct err *e)
{
	struct net_config *c = to;
	int r = opt_set_u32(&c->mtu, value, e);

	if (!r && (c->mtu < NET_MTU_MIN || c->mtu > NET_MTU_MAX))
		r = err_set(e, EINVAL, "an MTU of %u is outside %u to %u", c->mtu, NET_MTU_MIN,
			    NET_MTU_MAX);
	return r;
}

static int set_rate(void *to, char *value, struct err *e)
{
	struct net_config *c = to;

	return opt_set_size(&c->rate, value, e);
}

static int set_offload(void *to, char *value, struct err *e)
{
	struct net_config *c = to;

	c->offload_said = true;
	return opt_on_off(&c->offload, value, e);
}

static int set_ip(void *to, char *value, struct err *e)
{
	struct net_config *c = to;
	char *slash = strchr(value, '/');
	int family;
	uint32_t prefix = 0;

	if (!slash || opt_set_u32(&prefix, slash + 1, e))
		return err_set(e, EINVAL, "ip=%s: an address with its prefix, as 10.0.0.2/24, please",
			       value);
	*slash = 0;
	family = family_of(value);
	if (family < 0 || prefix < 1 || prefix > (family ? 128u : 32u))
		return err_set(e, EINVAL, "'%s/%s' is not an address and its prefix", value,
			       slash + 1);
	if (c->ip[family])
		return err_set(e, EINVAL, "two addresses of one kind");
	c->ip[family] = value;
	c->prefix[family] = prefix;
	return 0;
}

static int set_gateway(void *to, char *value, struct err *e)
{
	struct net_config *c = to;
	int family = family_of(value);

	if (family < 0 || c->gateway[family])
		return err_set(e, EINVAL, "gw=%s: an address, one of each kind, please", value);
	c->gateway[family] = value;
	return 0;
}

static int set_dns(void *to, char *value, struct err *e)
{
	struct net_config *c = to;

	if (family_of(value) < 0 || c->dns)
		return err_set(e, EINVAL, "dns=%s: one address, please", value);
	c->dns = value;
	return 0;
}

static int add_ports(struct net_config *c, char *to, size_t size, const char *value, struct err *e)
{
	size_t n = strlen(to);

	if (c->kind != NET_PASST)
		return err_set(e, EINVAL, "ports are forwarded by passt only");
	if (!*value || strspn(value, "0123456789-:~/.abcdef[]%") != strlen(value))
		return err_set(e, EINVAL, "'%s' are not ports", value);
	if ((size_t)snprintf(to + n, size - n, "%s%s", n ? "," : "", value) >= size - n)
		return err_set(e, EINVAL, "too many ports");
	return 0;
}

static int set_tcp(void *to, char *value, struct err *e)
{
	struct net_config *c = to;

	return add_ports(c, c->tcp, sizeof(c->tcp), value, e);
}

static int set_udp(void *to, char *value, struct err *e)
{
	struct net_config *c = to;

	return add_ports(c, c->udp, sizeof(c->udp), value, e);
}

static const struct opt_word details[] = {
	{"mac=", set_mac}, {"mtu=", set_mtu}, {"bps=", set_rate},
	{"ip=", set_ip},   {"gw=", set_gateway}, {"dns=", set_dns},
	{"offload=", set_offload}, {"tcp=", set_tcp}, {"udp=", set_udp}};

static int set_kind(struct net_config *c, char *word, struct err *e)
{
	static const struct {
		const char *name;
		enum net_kind kind;
	} kinds[] = {{"none", NET_NONE}, {"placeholder", NET_NONE}, {"passt", NET_PASST},
		     {"tap=", NET_TAP},	 {"fd=", NET_FD},	    {"unix=", NET_UNIX}};

	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		size_t n = strlen(kinds[i].name);

		if (strncmp(word, kinds[i].name, n))
			continue;
		c->kind = kinds[i].kind;
		c->target = word + n;
		if ((kinds[i].name[n - 1] == '=') != !!*c->target)
			break;
		for (const char *p = c->target; *p; p++) /* it is a line of the status */
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				return err_set(e, EINVAL, "'%s' is no name", c->target);
		if (c->kind == NET_FD && opt_set_u32(&c->fd, c->target, e))
			return -EINVAL;
		return 0;
	}
	return err_set(e, EINVAL,
		       "'%s' is none of tap=NAME, fd=N, unix=PATH, passt and none", word);
}

static void fill_in(struct net_config *c)
{
	if (c->kind == NET_PASST && !c->ip[0] && !c->ip[1]) {
		c->ip[0] = PASST_IP;
		c->prefix[0] = PASST_PREFIX;
		if (!c->gateway[0])
			c->gateway[0] = PASST_GATEWAY;
		if (!c->dns)
			c->dns = PASST_DNS;
	}
	if (!c->offload_said)
		c->offload = c->kind == NET_TAP || c->kind == NET_FD;
}

int net_parse(struct net_config *c, const char *value, struct err *e)
{
	char *rest = opt_cut(value);
	int r;

	*c = (struct net_config){0};
	r = set_kind(c, (char *)(uintptr_t)value, e);
	if (!r)
		r = opt_words(details, ARRAY_SIZE(details), c, rest, e);
	if (r)
		return r;
	fill_in(c);
	if (c->offload && (c->kind == NET_UNIX || c->kind == NET_PASST))
		return err_set(e, EINVAL, "offload is for tap devices");
	for (int i = 0; i < 2; i++)
		if (c->gateway[i] && !c->ip[i])
			return err_set(e, EINVAL, "gw=%s without ip=", c->gateway[i]);
	return 0;
}

size_t net_words(const struct net_config *c, unsigned int index, const struct net *n, char *text,
		 size_t size)
{
	size_t len = 0, name;

	text_append(text, size, &len, "eth%u", index);
	name = len;
	if (n)
		text_append(text, size, &len, ",mac=" NET_MAC_FORMAT ",mtu=%u", NET_MAC_BYTES(n->mac), n->mtu);
	for (int i = 0; i < 2; i++) {
		if (c->ip[i])
			text_append(text, size, &len, ",ip=%s/%u", c->ip[i], c->prefix[i]);
		if (c->gateway[i])
			text_append(text, size, &len, ",gw=%s", c->gateway[i]);
	}
	if (c->dns)
		text_append(text, size, &len, ",dns=%s", c->dns);
	if (c->words)
		text_append(text, size, &len, "%s", c->words);
	return len > name ? len : 0;
}

/* --- passt --- */

/* The most words of its command line. */
#define PASST_WORDS 40

struct words {
	const char *word[PASST_WORDS];
	unsigned int n;
};

static void add_word(struct words *w, const char *option, const char *value)
{
	w->word[w->n++] = option;
	if (value)
		w->word[w->n++] = value;
}

/* Not in the background, so that its messages go where ours do; its end is the socket's. The guest
 * does not reach what listens on the host's own loopback (--no-map-gw).
 */
static void passt_words(const struct net_config *c, char number[4], struct words *w)
{
	snprintf(number, 4, "%u", c->prefix[0]);
	add_word(w, "passt", NULL);
	add_word(w, "--foreground", NULL);
	add_word(w, "--quiet", NULL);
	add_word(w, "--fd", "3");
	add_word(w, "--no-map-gw", NULL);
	for (int i = 0; i < 2; i++) {
		if (c->ip[i])
			add_word(w, "--address", c->ip[i]);
		if (c->gateway[i])
			add_word(w, "--gateway", c->gateway[i]);
	}
	if (c->ip[0])
		add_word(w, "--netmask", number);
	if (!c->ip[1])
		add_word(w, "--ipv4-only", NULL);
	if (!c->ip[0])
		add_word(w, "--ipv6-only", NULL);
	if (c->dns && !strcmp(c->dns, PASST_DNS))
		add_word(w, "--dns-forward", PASST_DNS);
	if (*c->tcp)
		add_word(w, "--tcp-ports", c->tcp);
	if (*c->udp)
		add_word(w, "--udp-ports", c->udp);
	w->word[w->n] = NULL;
}

/* In the child: the socket is 3, what tells of a failure is 4, and nothing else is inherited. */
static _Noreturn void become_passt(int fd, int report, const struct words *w)
{
	sigset_t none;
	int r;

	/* Beyond both places first, or one could be in the other's. */
	fd = fcntl(fd, F_DUPFD, 5);
	report = fcntl(report, F_DUPFD_CLOEXEC, 5);
	dup2(fd, 3);
	dup3(report, 4, O_CLOEXEC);
	syscall(SYS_close_range, 5, ~0u, 0);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	signal(SIGXFSZ, SIG_DFL);
	execvp(w->word[0], (char *const *)(uintptr_t)w->word);
	r = errno;
	(void)!write(4, &r, sizeof(r));
	_exit(127);
}

/* Waits until the child is another program. Returns 0 or -errno. */
static int exec_result(int report)
{
	int code = 0;
	ssize_t n;

	do
		n = read(report, &code, sizeof(code));
	while (n < 0 && errno == EINTR);
	return n == sizeof(code) ? -code : 0;
}

/* Returns the socket to it, or -errno. */
static int start_passt(const struct net_config *c, struct err *e)
{
	struct words w = {.n = 0};
	char number[4];
	int fd[2], report[2], r;
	pid_t pid;

	passt_words(c, number, &w);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd))
		return err_sys(e, "cannot make a socket");
	if (pipe2(report, O_CLOEXEC)) {
		r = err_sys(e, "cannot make a pipe");
		close(fd[0]);
		close(fd[1]);
		return r;
	}
	pid = fork();
	if (!pid)
		become_passt(fd[1], report[1], &w);
	r = pid < 0 ? -errno : 0;
	close(fd[1]);
	close(report[1]);
	if (!r)
		r = exec_result(report[0]);
	close(report[0]);
	if (!r)
		return fd[0];
	close(fd[0]);
	return err_set(e, -r, "cannot start passt: %s", strerror(-r));
}

/* --- the back end --- */

/* Returns a connected socket or -errno. */
static int connect_to(const char *path, struct err *e)
{
	const char *slash = strrchr(path, '/');
	char *dir = slash ? strndup(path, (size_t)(slash + 1 - path)) : strdup(".");
	int at = dir ? open(dir, O_PATH | O_DIRECTORY | O_CLOEXEC) : -1, fd;

	if (at < 0) {
		fd = err_sys(e, "network socket %s", path);
	} else {
		fd = sock_connect(at, slash ? slash + 1 : path, 0);
		if (fd < 0)
			err_set(e, -fd, "network socket %s: %s", path, strerror(-fd));
		close(at);
	}
	free(dir);
	return fd;
}

static int open_stream(struct net *n, int fd, struct err *e)
{
	int r = fd < 0 ? fd : net_stream_init(&n->stream, fd, e);

	if (r)
		return r;
	n->backend = &n->stream.backend;
	return 0;
}

static int open_tap(struct net *n, int r)
{
	if (!r)
		n->backend = &n->tap.backend;
	return r;
}

/* What it is for the guest, whatever it is connected to. */
static int describe(struct net *n, const struct net_config *cfg, struct err *e)
{
	n->config = *cfg;
	n->mtu = (uint16_t)(cfg->mtu ? cfg->mtu : cfg->kind == NET_PASST ? PASST_MTU : DEFAULT_MTU);
	memcpy(n->mac, cfg->mac, sizeof(n->mac));
	if (!cfg->has_mac) {
		if (getrandom(n->mac, sizeof(n->mac), 0) != sizeof(n->mac))
			return err_sys(e, "no random numbers");
		n->mac[0] = (n->mac[0] & 0xfc) | 2; /* one host's, locally administered */
	}
	return 0;
}

int net_open(struct net *n, const struct net_config *cfg, struct err *e)
{
	int r = describe(n, cfg, e);

	if (r)
		return r;
	switch (cfg->kind) {
	case NET_TAP: return open_tap(n, net_tap_open(&n->tap, cfg->target, e));
	case NET_FD:
		if (cfg->fd <= STDERR_FILENO || cfg->fd > INT32_MAX)
			return err_set(e, EBADF, "fd=%u is no descriptor of a tap device", cfg->fd);
		return open_tap(n, net_tap_adopt(&n->tap, (int)cfg->fd, e));
	case NET_UNIX: return open_stream(n, connect_to(cfg->target, e), e);
	case NET_PASST: return open_stream(n, start_passt(cfg, e), e);
	default: return 0;
	}
}

int net_open_fd(struct net *n, const struct net_config *cfg, int fd, struct err *e)
{
	bool tap = cfg->kind == NET_TAP || cfg->kind == NET_FD;
	int r = describe(n, cfg, e);

	if (!r)
		r = tap ? open_tap(n, net_tap_adopt(&n->tap, fd, e)) : open_stream(n, fd, e);
	if (r)
		close(fd);
	return r;
}

void net_close_backend(struct net *n)
{
	if (n->backend == &n->tap.backend)
		net_tap_close(&n->tap);
	else if (n->backend)
		net_stream_close(&n->stream);
	n->backend = NULL;
	free(n->text);
	n->text = NULL;
}

void net_close(struct net *n)
{
	virtio_net_close(&n->dev);
	if (n->backend)
		loop_close(&n->worker.loop);
	net_close_backend(n);
}

int net_init(struct net *n, const struct mem *m, struct irq irq, struct loop *main, struct err *e)
{
	const struct net_config *c = &n->config;
	int r = n->backend ? worker_init(&n->worker, e) : 0;

	if (r)
		return r;
	r = virtio_net_init(&n->dev, m, n->mac, n->mtu, c->offload, irq,
			    n->backend ? &n->worker.loop : main, e);
	if (!r) {
		r = virtio_net_set_rate(&n->dev, c->rate, e);
		if (r)
			virtio_net_close(&n->dev);
	}
	if (r && n->backend)
		loop_close(&n->worker.loop);
	return r;
}

int net_connect(struct net *n, struct err *e)
{
	if (n->mtu > n->dev.config.mtu && n->config.mtu)
		return err_set(e, EINVAL, "an MTU of %u: the snapshot's device has one of %u at most",
			       n->mtu, n->dev.config.mtu);
	if (!n->config.mtu && n->dev.config.mtu != NET_MTU_MAX)
		n->mtu = n->dev.config.mtu;
	if (!n->backend)
		return 0;
	if (memcmp(n->dev.config.mac, n->mac, sizeof(n->mac)))
		virtio_net_set_mac(&n->dev, n->mac);
	return virtio_net_set_backend(&n->dev, n->backend, e);
}

int net_start(struct net *n, struct loop *main, struct err *e)
{
	return n->backend ? worker_start_when_needed(&n->worker, main, e) : 0;
}

void net_stop(struct net *n)
{
	if (n->backend)
		worker_stop(&n->worker);
}

size_t net_describe(struct net *n, unsigned int index, char *text, size_t size)
{
	static const char *const kind[] = {"none", "tap=", "fd=", "unix=", "passt"};
	const struct net_config *c = &n->config;
	const char *target = c->kind == NET_NONE || c->kind == NET_PASST ? "" : c->target;
	int len = snprintf(text, MIN(size, NET_DESCRIBED),
			   "net.%u %s%.256s\nmac.%u " NET_MAC_FORMAT "\nmtu.%u %u\nlink.%u %s\n", index,
			   kind[c->kind], target, index, NET_MAC_BYTES(n->dev.config.mac), index,
			   n->mtu, index, virtio_net_link(&n->dev) ? "up" : "down");

	return MIN((size_t)MAX(len, 0), MIN(size, NET_DESCRIBED));
}
