// Drives a Verilated AXI-Stream module `Vtop` with vectors from a file, with or without stalls on both sides.
//
// usage: Vtop INPUTS OUTPUTS COUNT BEATS IN_BITS OUT_BITS SEED
// INPUTS holds COUNT * BEATS beats and OUTPUTS COUNT results, each in little-endian 32-bit words, as many as the bus
// needs, bit 0 first.
// With SEED 0 the producer always offers and the consumer always takes; else both stall at random, in bursts.
// Prints: cycles from the first beat of the first sample to its result, cycles from first to last result, results that broke the protocol.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <type_traits>
#include <vector>

#include "Vtop.h"
#include "verilated.h"

using Words = std::vector<uint32_t>;

template <class Port>
void write(Port& port, const uint32_t* words, size_t count) {
    if constexpr (std::is_integral_v<Port>) {
        uint64_t value = words[0];
        if (count > 1) value |= uint64_t(words[1]) << 32;
        port = Port(value);
    } else {
        for (size_t i = 0; i < count; ++i) port[i] = words[i];
    }
}

template <class Port>
void read(const Port& port, uint32_t* words, size_t count) {
    if constexpr (std::is_integral_v<Port>) {
        words[0] = uint32_t(port);
        if (count > 1) words[1] = uint32_t(uint64_t(port) >> 32);
    } else {
        for (size_t i = 0; i < count; ++i) words[i] = port[i];
    }
}

// One side's willingness, cycle by cycle: bursts of random length, so that FIFOs run both full and empty.
struct Willing {
    uint64_t state;
    bool always, now = true;
    int left = 0;
    uint32_t next() {  // xorshift64*, Vigna, An experimental exploration of Marsaglia's xorshift generators (2016)
        state ^= state >> 12, state ^= state << 25, state ^= state >> 27;
        return uint32_t((state * 0x2545F4914F6CDD1DULL) >> 32);
    }
    bool operator()() {
        if (always) return true;
        if (left-- <= 0) now = next() & 1, left = int(next() % (next() % 8 ? 4 : 64));
        return now;
    }
};

int main(int argc, char** argv) {
    if (argc != 8) return 2;
    size_t numbers[5];
    for (int i = 0; i < 5; ++i) numbers[i] = strtoull(argv[i + 3], nullptr, 10);
    const auto [count, beats, in_bits, out_bits, seed] = numbers;
    const size_t in_words = (in_bits + 31) / 32, out_words = (out_bits + 31) / 32;
    Words inputs(count * beats * in_words), outputs(count * out_words), held(out_words), junk(in_words);
    FILE* file = fopen(argv[1], "rb");
    if (!file || fread(inputs.data(), 4, inputs.size(), file) != inputs.size()) return 3;
    fclose(file);

    VerilatedContext context;
    context.randReset(2);  // registers start at random, so that a missing reset shows
    context.randSeed(int(seed) + 1);
    Vtop top{&context};
    Willing offers{seed * 2 + 1, seed == 0}, takes{seed * 2 + 0x9E3779B97F4A7C15ULL, seed == 0};
    size_t sent = 0, received = 0, broken = 0;
    uint64_t cycle = 0, first_sent = 0, first_received = 0, last_received = 0, idle = 0;
    bool was_offering = false, was_waiting = false;

    auto edge = [&] {
        top.aclk = 1, top.eval();
        top.aclk = 0, top.eval();
    };
    top.aclk = 0, top.s_axis_tvalid = 1, top.m_axis_tready = 1;
    for (int i = 0; i < 4; ++i) {
        top.aresetn = 0, top.eval();
        if (top.s_axis_tready || top.m_axis_tvalid) ++broken;  // nothing moves in reset
        edge();
    }
    top.aresetn = 1;

    while (received < count && idle < 100000) {
        // A producer that has offered keeps its offer until it is taken.
        const bool offer = sent < count * beats && (was_offering || offers());
        if (!offer)
            for (auto& word : junk) word = offers.next();
        write(top.s_axis_tdata, offer ? &inputs[sent * in_words] : junk.data(), in_words);
        top.s_axis_tvalid = offer;
        top.m_axis_tready = takes();
        top.eval();
        const bool taken = offer && top.s_axis_tready, given = top.m_axis_tvalid && top.m_axis_tready;
        uint32_t* result = &outputs[received * out_words];
        read(top.m_axis_tdata, result, out_words);
        if (was_waiting)  // a result that was offered stays, unchanged, until it is taken
            for (size_t i = 0; i < out_words; ++i)
                if (!top.m_axis_tvalid || result[i] != held[i]) ++broken, i = out_words;
        was_waiting = top.m_axis_tvalid && !given;
        held.assign(result, result + out_words);
        was_offering = offer && !taken;
        if (taken && sent++ == 0) first_sent = cycle;
        if (given) {
            if (received++ == 0) first_received = cycle;
            last_received = cycle;
        }
        idle = taken || given ? 0 : idle + 1;
        edge();
        ++cycle;
    }
    for (int i = 0; i < 256; ++i, edge()) {  // nothing may come after the last result
        top.s_axis_tvalid = 0, top.m_axis_tready = 1, top.eval();
        if (top.m_axis_tvalid) ++broken;
    }
    top.final();

    file = fopen(argv[2], "wb");
    if (!file || fwrite(outputs.data(), 4, received * out_words, file) != received * out_words) return 4;
    fclose(file);
    printf("received %zu latency %llu span %llu broken %zu\n", received, (unsigned long long)(first_received - first_sent),
           (unsigned long long)(last_received - first_received), broken);
    return 0;
}
