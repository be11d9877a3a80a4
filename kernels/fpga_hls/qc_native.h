// A small stand-in for ap_int, ap_uint and hls::stream on this machine's own integers, for simulation at speed.
//
// Values wrap around on assignment as the vendor's do; in expressions they are plain integers of 32, 64 or 128 bits,
// so an expression must not need more than its operands' class holds: code for both kinds converts operands of
// products and sums to the width of the result first.
#ifndef QC_NATIVE_H
#define QC_NATIVE_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <vector>

namespace qc {

template <bool SMALL, class A, class B> struct choose { typedef A type; };
template <class A, class B> struct choose<false, A, B> { typedef B type; };

// What an integer of BITS bits is stored in, and computes as.
template <int BITS> struct native {
    typedef typename choose<BITS <= 32, int32_t, typename choose<BITS <= 64, int64_t, __int128>::type>::type wide;
    typedef typename choose<BITS <= 32, uint32_t, typename choose<BITS <= 64, uint64_t, unsigned __int128>::type>::type bits;
    typedef typename choose<BITS <= 8, int8_t, typename choose<BITS <= 16, int16_t, wide>::type>::type stored;
    typedef typename choose<BITS <= 8, uint8_t, typename choose<BITS <= 16, uint16_t, bits>::type>::type stored_bits;
};

template <int BITS> using exact = typename native<BITS>::wide;

// x 2^places, which fits: shifting a negative number left has no meaning in C++17, so its bits are shifted.
template <class T> inline T shifted_left(T x, int places) {
    typedef typename native<(int)sizeof(T) * 8>::bits bits;
    return (T)((bits)x << places);
}

}  // namespace qc

template <int BITS> class ap_int {
    typedef typename qc::native<BITS>::wide wide;
    typedef typename qc::native<BITS>::bits bits;
    typename qc::native<BITS>::stored value;

public:
    ap_int() {}
    template <class T> ap_int(T x) : value(wrapped((wide)x)) {}
    operator wide() const { return value; }
    template <class T> ap_int &operator+=(T x) {
        value = wrapped((wide)((bits)(wide)value + (bits)(wide)x));
        return *this;
    }

private:
    static wide wrapped(wide x) {
        const int spare = (int)sizeof(wide) * 8 - BITS;
        return (wide)((bits)x << spare) >> spare;
    }
};

template <int BITS> class ap_uint {
    // one class wider in expressions, so that it stays positive
    typedef typename qc::native<BITS + 1>::wide wide;
    typename qc::native<BITS>::stored_bits value;

public:
    ap_uint() {}
    template <class T> ap_uint(T x) : value((typename qc::native<BITS>::stored_bits)((wide)x & (((wide)1 << BITS) - 1))) {}
    operator wide() const { return (wide)value; }
};

namespace hls {

// A queue without bounds. Reading from an empty one is an error of the network and ends the program.
template <class T> class stream {
    std::vector<T> words;
    size_t next = 0;
    const char *name;

public:
    stream(const char *called = "stream") : name(called) {}

    void write(const T &word) { words.push_back(word); }

    T read() {
        if (empty()) {
            fprintf(stderr, "stream %s is read while it is empty\n", name);
            abort();
        }
        T word = words[next++];
        if (next == words.size()) {
            words.clear();
            next = 0;
        }
        return word;
    }

    bool empty() const { return next == words.size(); }
    size_t size() const { return words.size() - next; }
    const T &at(size_t index) const { return words[next + index]; }

private:
    stream(const stream &);
    stream &operator=(const stream &);
};

}  // namespace hls

#endif
