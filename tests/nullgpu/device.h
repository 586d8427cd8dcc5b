// The device that both halves of the null GPU describe: one H100 with 80 GB.
#pragma once

inline constexpr unsigned long long MEMORY = 80ull << 30;
inline constexpr int CUDA_VERSION_SAID = 13020;

// A property by its number, which is the same in the runtime (cudaDevAttr...) and the driver (CU_DEVICE_ATTRIBUTE_...).
inline int attribute(int number) {
    switch (number) {
        case 1: return 1024;         // threads per block
        case 2: return 1024;         // block, x
        case 3: return 1024;         // block, y
        case 4: return 64;           // block, z
        case 5: return 2147483647;   // grid, x
        case 6: return 65535;        // grid, y
        case 7: return 65535;        // grid, z
        case 8: return 49152;        // shared memory per block
        case 10: return 32;          // warp
        case 12: return 65536;       // registers per block
        case 13: return 1980000;     // clock, kHz
        case 16: return 132;         // multiprocessors
        case 36: return 2619000;     // memory clock, kHz
        case 37: return 5120;        // memory bus, bits
        case 38: return 4096;        // L2 cache, small: Inductor empties it 200 times for each kernel that it tries
        case 39: return 2048;        // threads per multiprocessor
        case 75: return 9;           // capability, major
        case 76: return 0;           // and minor
        case 81: return 233472;      // shared memory per multiprocessor
        case 82: return 65536;       // registers per multiprocessor
        case 97: return 232448;      // shared memory per block, on request
        case 106: return 32;         // blocks per multiprocessor
        case 115: return 1;          // memory pools
        default: return 0;
    }
}
