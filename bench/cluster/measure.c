/* SPDX-License-Identifier: MIT */
#include "measure.h"

#include <inttypes.h>
#include <stdlib.h>

#include "common/page.h"
#include "sim/guard.h"
#include "wire/ctl.h"
#include "world.h"

#define SAMPLE_S 5u
/* What took longer did not run all the time: other processes want the CPU too. */
#define PREEMPTED_NS 500000u
#define QUANTILES 200u

static int
compare_doubles(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static int
compare_u32(const void *a, const void *b)
{
	const uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return (x > y) - (x < y);
}

/* Sorts @loads. */
static struct load_figures
figures_of(double *loads, uint32_t n)
{
	double sum = 0;

	qsort(loads, n, sizeof(*loads), compare_doubles);
	for (uint32_t i = 0; i < n; i++)
		sum += loads[i];
	return (struct load_figures){
		.utilisation = sum / n,
		.max_to_median = loads[n - 1] / loads[n / 2],
		.max_to_min = loads[n - 1] / loads[0],
	};
}

static void
totals_get(const struct world *w, struct measure_totals *t)
{
	*t = (struct measure_totals){0};
	for (uint32_t i = 0; i < w->opt.n_machines; i++) {
		const struct machine *m = &w->machines[i];
		struct slab_device_stats device;
		struct daemon_stats daemon;

		slab_device_get_stats(m->device, &device);
		daemon_get_stats(m->daemon, &daemon);
		t->maps += daemon.maps_total;
		t->refused += daemon.refused_total;
		t->evictions += daemon.evictions_total;
		t->evictions_forced += daemon.evictions_forced_total;
		t->dones += device.evictions;
		t->done_ns += device.evict_ns_total;
		t->migrations += device.migrations;
		t->given_back += device.slabs_given_back;
		t->pages_read_remote += device.pages_read_remote;
		t->pages_read_backup += device.pages_read_backup;
		for (uint32_t k = 0; k < NET_MESSAGE_TYPES; k++)
			t->n_sent[k] += m->device_host.n_sent[k] + m->daemon_host.n_sent[k];
	}
}

static void
sample_cb(struct sim_event *ev)
{
	struct measure *ms = container_of(ev, struct measure, sample_ev);
	struct world *w = ms->world;
	struct measure_sample *s = &ms->samples[ms->n_samples];

	ms->second += SAMPLE_S;
	for (uint32_t i = 0; i < w->opt.n_machines; i++) {
		const struct machine *m = &w->machines[i];

		ms->loads_without[i] = m->used_gib / MACHINE_GIB;
		ms->loads_with[i] =
			ms->loads_without[i] + (double)machine_slabs_lent(m) / MACHINE_GIB;
	}
	s->second = ms->second;
	s->without = figures_of(ms->loads_without, w->opt.n_machines);
	s->with = figures_of(ms->loads_with, w->opt.n_machines);
	if (ms->second <= w->opt.warmup_seconds) {
		ms->first_sample = ms->n_samples + 1;
		totals_get(w, &ms->at_warm);
	}
	ms->n_samples++;
	sim_clock_at(&w->clock, ev, w->clock.now_ns + SAMPLE_S * NSEC_PER_SEC);
}

void
measure_init(struct measure *ms, struct world *w)
{
	const uint32_t n = w->opt.n_machines;

	ms->world = w;
	ms->sample_ev.fire = sample_cb;
	ms->samples = guard_alloc((w->opt.seconds / SAMPLE_S + 1) * sizeof(*ms->samples));
	ms->loads_without = guard_alloc(n * sizeof(*ms->loads_without));
	ms->loads_with = guard_alloc(n * sizeof(*ms->loads_with));
	sim_clock_at(&w->clock, &ms->sample_ev, w->clock.now_ns + SAMPLE_S * NSEC_PER_SEC);
}

static bool
is_warm(const struct measure *ms)
{
	return ms->second >= ms->world->opt.warmup_seconds;
}

void
measure_turn(struct measure *ms, enum measure_side side, uint64_t cpu_ns)
{
	if (cpu_ns > PREEMPTED_NS)
		return;
	ms->n_turns[side]++;
	ms->turn_cpu_ns[side] += cpu_ns;
}

void
measure_placement_cpu(struct measure *ms, enum measure_side side, uint64_t cpu_ns)
{
	if (is_warm(ms) && cpu_ns <= PREEMPTED_NS)
		ms->placement_cpu_ns[side] += cpu_ns;
}

void
measure_placement(struct measure *ms, enum measure_side side, uint64_t ns)
{
	if (!is_warm(ms))
		return;
	ms->n_placed[side]++;
	if (ms->n_placements == ms->placements_room) {
		ms->placements_room = ms->placements_room ? 2 * ms->placements_room : 1024;
		ms->placements_ns = guard_realloc(ms->placements_ns,
						  ms->placements_room * sizeof(*ms->placements_ns));
	}
	ms->placements_ns[ms->n_placements++] = ns < UINT32_MAX ? (uint32_t)ns : UINT32_MAX;
}

/* --- the report --- */

static struct load_figures
mean_of(const struct measure *ms, bool with)
{
	struct load_figures sum = {0};
	const uint32_t n = ms->n_samples - ms->first_sample;

	for (uint32_t i = ms->first_sample; i < ms->n_samples; i++) {
		const struct measure_sample *s = &ms->samples[i];
		const struct load_figures *f = with ? &s->with : &s->without;

		sum.utilisation += f->utilisation / n;
		sum.max_to_median += f->max_to_median / n;
		sum.max_to_min += f->max_to_min / n;
	}
	return sum;
}

static void
report_figures(FILE *to, const char *name, struct load_figures f)
{
	fprintf(to,
		"\"%s\": {\"utilisation\": %.4f, \"max_to_median\": %.3f, \"max_to_min\": %.2f},\n",
		name, f.utilisation, f.max_to_median, f.max_to_min);
}

static void
report_messages(FILE *to, const struct world *w, const struct measure_totals *now, uint32_t seconds)
{
	const struct measure_totals *then = &w->measure.at_warm;
	const char *comma = "";

	fprintf(to, "\"messages_per_daemon_second\": {");
	for (uint32_t k = 0; k < NET_MESSAGE_TYPES; k++) {
		const uint64_t n = now->n_sent[k] - then->n_sent[k];

		if (n == 0)
			continue;
		fprintf(to, "%s\"%s\": %.4f", comma, ctl_type_name((enum ctl_type)k),
			(double)n / w->opt.n_machines / seconds);
		comma = ", ";
	}
	fprintf(to, "},\n");
}

static void
report_placements(FILE *to, struct measure *ms)
{
	const uint32_t n = ms->n_placements;

	if (n > 0)
		qsort(ms->placements_ns, n, sizeof(*ms->placements_ns), compare_u32);
	fprintf(to, "\"placements\": {\"count\": %u, \"median_us\": %.1f, \"p99_us\": %.1f},\n", n,
		n > 0 ? ms->placements_ns[n / 2] * 1e-3 : 0,
		n > 0 ? ms->placements_ns[(uint64_t)n * 99 / 100] * 1e-3 : 0);
}

static double
cpu_us_each(uint64_t cpu_ns, uint64_t n)
{
	return n > 0 ? (double)cpu_ns * 1e-3 / (double)n : 0;
}

static void
report_cpu(FILE *to, const struct measure *ms)
{
	static const char *const names[] = {"device", "daemon", "wide_device"};

	for (uint32_t i = 0; i < MEASURE_SIDES; i++) {
		const uint64_t n_placed = i == MEASURE_DAEMON ? ms->n_placements : ms->n_placed[i];

		fprintf(to,
			"\"%s_cpu\": {\"turns\": %" PRIu64 ", \"turn_us\": %.3f, "
			"\"placement_us\": %.2f},\n",
			names[i], ms->n_turns[i], cpu_us_each(ms->turn_cpu_ns[i], ms->n_turns[i]),
			cpu_us_each(ms->placement_cpu_ns[i], n_placed));
	}
}

static void
report_series(FILE *to, const struct measure *ms)
{
	fprintf(to, "\"series\": [");
	for (uint32_t i = 0; i < ms->n_samples; i++) {
		const struct measure_sample *s = &ms->samples[i];

		fprintf(to, "%s[%u, %.4f, %.4f]", i > 0 ? ", " : "", s->second,
			s->without.utilisation, s->with.utilisation);
	}
	fprintf(to, "],\n");
}

/* The loads of the last sample, of the least loaded machine first. */
static void
report_loads(FILE *to, const char *name, const double *loads, uint32_t n)
{
	const uint32_t n_points = n < QUANTILES ? n : QUANTILES;

	fprintf(to, "\"%s\": [", name);
	for (uint32_t i = 0; i < n_points; i++)
		fprintf(to, "%s%.4f", i > 0 ? ", " : "",
			loads[(uint64_t)i * (n - 1) / (n_points > 1 ? n_points - 1 : 1)]);
	fprintf(to, "],\n");
}

static void
report_count(FILE *to, const char *name, uint64_t now, uint64_t then)
{
	fprintf(to, "\"%s\": %" PRIu64 ",\n", name, now - then);
}

static void
report_totals(FILE *to, const struct world *w, const struct measure_totals *now)
{
	const struct measure_totals *then = &w->measure.at_warm;
	const uint64_t dones = now->dones - then->dones;

	fprintf(to, "\"wide_start_ms\": %.1f,\n", (double)w->measure.wide_start_ns * 1e-6);
	report_count(to, "evictions", now->evictions, then->evictions);
	report_count(to, "evictions_forced", now->evictions_forced, then->evictions_forced);
	report_count(to, "migrations", now->migrations, then->migrations);
	report_count(to, "given_back", now->given_back, then->given_back);
	report_count(to, "maps", now->maps, then->maps);
	report_count(to, "refused", now->refused, then->refused);
	report_count(to, "pages_read_remote", now->pages_read_remote, then->pages_read_remote);
	report_count(to, "pages_read_backup", now->pages_read_backup, then->pages_read_backup);
	fprintf(to, "\"eviction_ms\": %.3f,\n",
		dones > 0 ? (double)(now->done_ns - then->done_ns) * 1e-6 / (double)dones : 0);
	fprintf(to,
		"\"containers_started\": %" PRIu64 ", \"containers_unplaced\": %" PRIu64
		", \"pieces\": %" PRIu64 ", \"pieces_starved\": %" PRIu64
		", \"operations\": %" PRIu64 ", \"operations_failed\": %" PRIu64
		", \"sessions_lost\": %" PRIu64 ", \"events\": %" PRIu64 "\n",
		w->load.n_started, w->load.n_unplaced, w->load.n_pieces, w->load.n_starved,
		w->net.n_ops, w->net.n_failed_ops, w->net.n_conns_lost, w->clock.n_fired);
}

void
measure_report(struct measure *ms, FILE *to)
{
	const struct world *w = ms->world;
	const struct options *o = &w->opt;
	struct measure_totals now;

	totals_get(w, &now);
	fprintf(to,
		"{\"machines\": %u, \"containers\": %u, \"portals\": %u, \"choices\": %u, "
		"\"seed\": %" PRIu64 ", \"seconds\": %u, \"warmup_seconds\": %u,\n",
		o->n_machines, o->n_containers, o->n_portals, o->choices, o->seed, o->seconds,
		o->warmup_seconds);
	report_figures(to, "without", mean_of(ms, false));
	report_figures(to, "with", mean_of(ms, true));
	report_messages(to, w, &now, o->seconds - o->warmup_seconds);
	report_placements(to, ms);
	report_cpu(to, ms);
	report_series(to, ms);
	report_loads(to, "loads_without", ms->loads_without, o->n_machines);
	report_loads(to, "loads_with", ms->loads_with, o->n_machines);
	report_totals(to, w, &now);
	fprintf(to, "}\n");
}
