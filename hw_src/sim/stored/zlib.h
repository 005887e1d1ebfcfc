// What Verilator's FST writer calls of zlib, without compressing: a zlib stream (RFC 1950) of stored
// deflate blocks (RFC 1951, 3.2.4). So that recording waveforms needs no development package.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>

using Bytef = unsigned char;
using uLong = unsigned long;
using uLongf = unsigned long;
constexpr int Z_OK = 0, Z_BUF_ERROR = -5;

inline uLong compressBound(uLong size) { return size + 5 * (size / 65535 + 1) + 6; }

inline int compress2(Bytef* target, uLongf* target_size, const Bytef* source, uLong size, int) {
    if (*target_size < compressBound(size)) return Z_BUF_ERROR;
    Bytef* out = target;
    *out++ = 0x78;
    *out++ = 0x01;
    for (uLong done = 0; done == 0 || done < size;) {
        const uLong part = std::min<uLong>(size - done, 65535);
        *out++ = done + part == size;
        *out++ = part & 0xFF;
        *out++ = part >> 8;
        *out++ = ~part & 0xFF;
        *out++ = ~part >> 8 & 0xFF;
        std::memcpy(out, source + done, part);
        out += part;
        done += part;
        if (size == 0) break;
    }
    uint32_t low = 1, high = 0;  // Adler-32
    for (uLong i = 0; i < size; ++i) {
        low = (low + source[i]) % 65521;
        high = (high + low) % 65521;
    }
    for (const uint32_t half : {high, low}) {
        *out++ = half >> 8;
        *out++ = half & 0xFF;
    }
    *target_size = out - target;
    return Z_OK;
}
