/* A kernel that is nothing but hostile: entered through PVH, it sets both virtio devices up and writes garbage into
 * their rings. The command line is a number, the seed. It ends by a triple fault, as enclaves do.
 * virtio 1.2 section 4.2 (MMIO, registers of both versions) and 2.7 (split rings). */
#include <stdint.h>

#define QUEUES 2
#define ROUNDS 400

__asm__(".section .note.Xen, \"a\", @note\n"
	".long 4, 4, 18\n" /* XEN_ELFNOTE_PHYS32_ENTRY */
	".asciz \"Xen\"\n"
	".long start\n"
	".text\n"
	".globl start\n"
	"start: mov $stack + 16384, %esp\n"
	"push %ebx\n"
	"call attack\n");

char stack[16384];
static unsigned char rings[2][QUEUES][16384] __attribute__((aligned(4096)));
static uint32_t state;

static uint32_t dice(void)
{
	state = state * 1664525 + 1013904223;
	return state >> 8;
}

static volatile uint32_t *reg(uint32_t base, uint32_t offset)
{
	return (volatile uint32_t *)(base + offset);
}

static void set_queue_up(uint32_t base, uint32_t queue, unsigned char *ring)
{
	uint32_t size, where = (uint32_t)ring;

	*reg(base, 0x30) = queue;
	size = *reg(base, 0x34) < 8 ? *reg(base, 0x34) : 8;
	*reg(base, 0x38) = size;
	if (*reg(base, 0x04) == 1) {
		*reg(base, 0x3c) = 4096;
		*reg(base, 0x40) = where >> 12;
		return;
	}
	*reg(base, 0x80) = where, *reg(base, 0x84) = 0;
	*reg(base, 0x90) = where + 16 * size, *reg(base, 0x94) = 0;
	*reg(base, 0xa0) = where + 4096, *reg(base, 0xa4) = 0;
	*reg(base, 0x44) = 1;
}

static void set_up(uint32_t base, unsigned device)
{
	int modern = *reg(base, 0x04) != 1;

	*reg(base, 0x70) = 0;
	*reg(base, 0x70) = 3;
	if (modern) {
		*reg(base, 0x24) = 1, *reg(base, 0x20) = 1; /* VIRTIO_F_VERSION_1 */
		*reg(base, 0x70) = 11;
	} else {
		*reg(base, 0x28) = 4096;
	}
	for (uint32_t queue = 0; queue < QUEUES; queue++)
		set_queue_up(base, queue, rings[device][queue]);
	*reg(base, 0x70) = modern ? 15 : 7;
}

/* A plausible descriptor now and then, so that not everything ends at the first look. */
static void write_garbage(unsigned char *ring)
{
	uint32_t *descriptor = (uint32_t *)(ring + 16 * (dice() % 8));
	uint16_t *available = (uint16_t *)(ring + 16 * 8), *shorter = (uint16_t *)(ring + 16 * 2);

	switch (dice() % 4) {
	case 0:
		descriptor[0] = dice(), descriptor[1] = dice() % 2, descriptor[2] = dice(), descriptor[3] = dice();
		break;
	case 1:
		descriptor[0] = (uint32_t)ring + 8192, descriptor[1] = 0;
		descriptor[2] = dice() % 8192, descriptor[3] = dice() % 8 | (dice() % 8) << 16;
		break;
	case 2:
		available[2 + dice() % 8] = dice() % 16, available[1] += dice() % 3;
		shorter[2 + dice() % 2] = dice() % 4;
		break;
	default:
		ring[4096 + dice() % 128] = dice(); /* the device's own part */
	}
}

__attribute__((noreturn)) void attack(uint32_t info)
{
	static const uint32_t bases[] = {0xfeb00e00, 0xfeb00c00};
	const char *word = (const char *)*(uint32_t *)(info + 24);
	struct { uint16_t limit; uint32_t base; } __attribute__((packed)) nothing = {0, 0};

	for (; *word >= '0' && *word <= '9'; word++)
		state = state * 10 + *word - '0';
	for (unsigned device = 0; device < 2; device++)
		set_up(bases[device], device);
	for (int round = 0; round < ROUNDS; round++) {
		unsigned device = dice() % 2, queue = dice() % QUEUES;

		for (unsigned i = 0; i < 1 + dice() % 6; i++)
			write_garbage(rings[device][queue]);
		*reg(bases[device], 0x50) = queue;
		for (volatile int wait = 0; wait < 20000; wait++)
			;
	}
	for (;;)
		__asm__ volatile("lidt %0; int3" : : "m"(nothing));
}
