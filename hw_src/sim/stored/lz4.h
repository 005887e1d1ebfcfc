// What Verilator's FST writer calls of LZ4, without compressing: one sequence of literals, which any
// LZ4 decoder reads (LZ4 block format description, "Compressed block format"). So that recording
// waveforms needs no development package.
#pragma once
#include <cstring>

inline int LZ4_compressBound(int size) { return size + size / 255 + 16; }

inline int LZ4_compress_default(const char* source, char* target, int size, int capacity) {
    if (capacity < LZ4_compressBound(size)) return 0;
    char* out = target;
    *out++ = static_cast<char>(size < 15 ? size << 4 : 0xF0);  // literals, no match
    if (size >= 15) {
        int left = size - 15;
        for (; left >= 255; left -= 255) *out++ = static_cast<char>(255);
        *out++ = static_cast<char>(left);
    }
    std::memcpy(out, source, size);
    return static_cast<int>(out - target) + size;
}
