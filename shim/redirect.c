/* SPDX-License-Identifier: Apache-2.0 */
#include "shim/redirect.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <linux/pkt_sched.h>
#include <linux/rtnetlink.h>
#include <linux/tc_act/tc_mirred.h>

#define QUEUE	 TC_H_MAKE(TC_H_INGRESS, 0) /* the handle of an ingress queue, of which there can be one */
#define PRIORITY 0x7576			    /* by which the filter is known as ours */

static struct tcmsg queue_of(int interface)
{
	return (struct tcmsg){.tcm_family = AF_UNSPEC,
			      .tcm_ifindex = interface,
			      .tcm_handle = QUEUE,
			      .tcm_parent = TC_H_INGRESS};
}

static struct tcmsg filter_of(int interface)
{
	return (struct tcmsg){.tcm_family = AF_UNSPEC,
			      .tcm_ifindex = interface,
			      .tcm_parent = QUEUE,
			      .tcm_info = TC_H_MAKE(PRIORITY << 16, htons(ETH_P_ALL))};
}

static int add_queue(struct netlink *n, int interface)
{
	struct tcmsg body = queue_of(interface);

	netlink_begin(n, RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	netlink_put(n, TCA_KIND, "ingress", sizeof("ingress"));
	return netlink_send(n);
}

/* u32 with a key that fits every frame: older kernels have no cls_matchall. */
static int add_filter(struct netlink *n, int from, int to)
{
	struct {
		struct tc_u32_sel head;
		struct tc_u32_key any;
	} select = {.head = {.flags = TC_U32_TERMINAL, .nkeys = 1}};
	struct tc_mirred action = {
		.action = TC_ACT_STOLEN, .eaction = TCA_EGRESS_REDIR, .ifindex = (uint32_t)to};
	struct tcmsg body = filter_of(from);
	size_t options, actions, first, parameters;

	netlink_begin(n, RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, &body, sizeof(body));
	netlink_put(n, TCA_KIND, "u32", sizeof("u32"));
	options = netlink_nest(n, TCA_OPTIONS);
	netlink_put(n, TCA_U32_SEL, &select, sizeof(select));
	actions = netlink_nest(n, TCA_U32_ACT);
	first = netlink_nest(n, 1); /* in their order, from 1 */
	netlink_put(n, TCA_ACT_KIND, "mirred", sizeof("mirred"));
	parameters = netlink_nest(n, TCA_ACT_OPTIONS);
	netlink_put(n, TCA_MIRRED_PARMS, &action, sizeof(action));
	netlink_end(n, parameters);
	netlink_end(n, first);
	netlink_end(n, actions);
	netlink_end(n, options);
	return netlink_send(n);
}

int redirect_make(struct netlink *n, int from, int to)
{
	int r = add_queue(n, from);

	if (r == -EEXIST && !redirect_remove(n, from))
		r = add_queue(n, from);
	if (r)
		return r == -EEXIST ? -EBUSY : r;
	return add_filter(n, from, to);
}

int redirect_remove(struct netlink *n, int from)
{
	struct tcmsg queue = queue_of(from), filter = filter_of(from);
	int r;

	netlink_begin(n, RTM_DELTFILTER, 0, &filter, sizeof(filter));
	r = netlink_send(n);
	if (r)
		return -ENOENT; /* or there is no queue at all */
	netlink_begin(n, RTM_DELQDISC, 0, &queue, sizeof(queue));
	return netlink_send(n);
}
