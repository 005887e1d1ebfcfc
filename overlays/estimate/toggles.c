/* Cycle simulation of a LUT netlist, 64 independent streams in the bits of a word.
 *
 * A cycle is simulated over `ticks` steps of transport delay: sources (inputs, flip-flops) change
 * at tick 0, a node's output is its function of what its inputs were `delay` ticks before. Every
 * net keeps its waveform of one cycle, so nodes can be done one after the other. Counted are
 * changes of the settled value (`settled`) and all changes on the way (`transitions`).
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define PAD 8 /* ticks before 0 that a delay may reach back to; the largest delay is below */

typedef uint64_t word;

typedef struct {
    int n_nets, ticks;
    int n_nodes;
    const int *output, *n_inputs, *inputs; /* inputs: 6 a node */
    const word *table;
    const int *delay, *first, *last; /* last: the last tick at which the output may change */
    int n_flip_flops;
    const int *ff_output, *ff_data, *ff_delay; /* ff_delay: 1 to 16 cycles */
    int n_ports;
    const int *port; /* net of each input bit */
    int n_recorded;
    const int *recorded; /* nets to keep */
} netlist;

static word evaluate(word table, int n, const word *x) {
    word leaf[32];
    int size = n ? 1 << (n - 1) : 1;
    if (n == 0) return -(table & 1);
    for (int i = 0; i < size; i++) {
        word low = -((table >> (2 * i)) & 1), high = -((table >> (2 * i + 1)) & 1);
        leaf[i] = low ^ ((low ^ high) & x[0]);
    }
    for (int level = 1; level < n; level++) {
        size >>= 1;
        for (int i = 0; i < size; i++)
            leaf[i] = leaf[2 * i] ^ ((leaf[2 * i] ^ leaf[2 * i + 1]) & x[level]);
    }
    return leaf[0];
}

/* Simulates `cycles` cycles, counts from cycle `warm` on. Returns 0, or 1 without memory. */
int simulate(const netlist *design, int cycles, int warm, const word *stimulus, word *record,
             uint64_t *settled, uint64_t *transitions) {
    const int length = PAD + design->ticks + 1;
    word *waves = calloc((size_t)design->n_nets * length, sizeof(word));
    word *states = calloc((size_t)design->n_flip_flops * 16 + 1, sizeof(word));
    word *next = calloc((size_t)design->n_flip_flops + 1, sizeof(word));
    if (!waves || !states || !next) {
        free(waves); free(states); free(next);
        return 1;
    }
    for (int i = 0; i < length; i++) waves[length + i] = ~(word)0; /* net 1 is constant 1 */
    for (int cycle = 0; cycle < cycles; cycle++) {
        for (int i = 0; i < design->n_flip_flops; i++) {
            word *state = states + 16 * i;
            int delay = design->ff_delay[i];
            memmove(state + 1, state, sizeof(word) * 15);
            state[0] = waves[(size_t)design->ff_data[i] * length + length - 1];
            next[i] = state[delay - 1];
        }
        for (int i = 0; i < design->n_flip_flops + design->n_ports; i++) {
            int is_state = i < design->n_flip_flops;
            int k = is_state ? i : i - design->n_flip_flops;
            int net = is_state ? design->ff_output[k] : design->port[k];
            word value = is_state ? next[k] : stimulus[(size_t)cycle * design->n_ports + k];
            word *wave = waves + (size_t)net * length, before = wave[length - 1];
            for (int t = 0; t < PAD; t++) wave[t] = before;
            for (int t = PAD; t < length; t++) wave[t] = value;
            if (cycle >= warm) {
                settled[net] += __builtin_popcountll(before ^ value);
                transitions[net] += __builtin_popcountll(before ^ value);
            }
        }
        for (int i = 0; i < design->n_nodes; i++) {
            const int n = design->n_inputs[i], net = design->output[i], delay = design->delay[i];
            word *wave = waves + (size_t)net * length, before = wave[length - 1], past = before;
            const word *input[6];
            word x[6];
            uint64_t count = 0;
            for (int k = 0; k < n; k++)
                input[k] = waves + (size_t)design->inputs[6 * i + k] * length - delay;
            for (int t = 0; t < PAD + design->first[i]; t++) wave[t] = before;
            for (int t = PAD + design->first[i]; t <= PAD + design->last[i]; t++) {
                for (int k = 0; k < n; k++) x[k] = input[k][t];
                word value = evaluate(design->table[i], n, x);
                count += __builtin_popcountll(past ^ value);
                wave[t] = past = value;
            }
            for (int t = PAD + design->last[i] + 1; t < length; t++) wave[t] = past;
            if (cycle >= warm) {
                settled[net] += __builtin_popcountll(before ^ past);
                transitions[net] += count;
            }
        }
        for (int i = 0; i < design->n_recorded; i++)
            record[(size_t)cycle * design->n_recorded + i] =
                waves[(size_t)design->recorded[i] * length + length - 1];
    }
    free(waves); free(states); free(next);
    return 0;
}
