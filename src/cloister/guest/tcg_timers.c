// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * Compiled into the x86_64 guest kernel: what QEMU's emulator (TCG) could tell a guest, and does not.
 *
 * Other hypervisors say how fast the APIC's timer runs; under TCG the kernel measures it for a quarter of a second,
 * and then for a tenth more every further processor. The timer counts nanoseconds there (QEMU's hw/intc/apic.c),
 * and all processors read the same TSC. Asked for by "tcg_timers" on the command line; elsewhere without effect.
 */
#include <linux/init.h>
#include <linux/jiffies.h>
#include <linux/string.h>
#include <asm/apic.h>
#include <asm/cpufeature.h>
#include <asm/processor.h>

#define HYPERVISOR_LEAF 0x40000000
#define TCG_SIGNATURE "TCGTCGTCGTCG"
#define TCG_APIC_HZ 1000000000

static int __init know_tcg_timers(char *unused)
{
	unsigned int highest, signature[3];

	if (!boot_cpu_has(X86_FEATURE_HYPERVISOR))
		return 0;
	cpuid(HYPERVISOR_LEAF, &highest, &signature[0], &signature[1], &signature[2]);
	if (memcmp(signature, TCG_SIGNATURE, sizeof(signature)))
		return 0;
	lapic_timer_period = TCG_APIC_HZ / HZ;
	setup_force_cpu_cap(X86_FEATURE_CONSTANT_TSC);
	return 0;
}
early_param("tcg_timers", know_tcg_timers);
