/* Brightness, contrast, saturation, hue and grey as Pillow computes them: the loops over kernels/pixel.h. */
#include "kernels/cpu/view.h"
#include "kernels/pixel.h"

#include <string.h>

/* ---- blends -------------------------------------------------------------------------------------------- */

CLD_VIEW_SIMD static void blend_with_level(uint8_t *plane, size_t n, int level, float factor) {
    for (size_t i = 0; i < n; i++) plane[i] = cld_pixel_blend(level, plane[i], factor);
}

CLD_CPU_VIEW(brightness) { blend_with_level(c->data, 3 * cld__view_pixels(c), 0, s->factor); }

CLD_VIEW_SIMD static uint64_t grey_sum(const uint8_t *r, const uint8_t *g, const uint8_t *b, size_t n) {
    uint64_t sum = 0;
    for (size_t start = 0; start < n; start += 4096) { /* 4096 * 255 fits an int */
        size_t end = n - start < 4096 ? n : start + 4096;
        int part = 0;
        for (size_t i = start; i < end; i++) part += cld_pixel_grey(r[i], g[i], b[i]);
        sum += (uint64_t)part;
    }
    return sum;
}

CLD_CPU_VIEW(contrast) {
    size_t n = cld__view_pixels(c);
    const uint8_t *r = c->data;
    double mean = (double)grey_sum(r, r + n, r + 2 * n, n) / (double)n;
    blend_with_level(c->data, 3 * n, (int)(mean + 0.5), s->factor);
}

CLD_VIEW_SIMD static void saturate(uint8_t *r, uint8_t *g, uint8_t *b, size_t n, float factor) {
    for (size_t i = 0; i < n; i++) {
        int level = cld_pixel_grey(r[i], g[i], b[i]);
        r[i] = cld_pixel_blend(level, r[i], factor);
        g[i] = cld_pixel_blend(level, g[i], factor);
        b[i] = cld_pixel_blend(level, b[i], factor);
    }
}

CLD_CPU_VIEW(saturation) {
    size_t n = cld__view_pixels(c);
    saturate(c->data, c->data + n, c->data + 2 * n, n, s->factor);
}

CLD_VIEW_SIMD static void to_grey(uint8_t *r, uint8_t *g, uint8_t *b, size_t n) {
    for (size_t i = 0; i < n; i++) r[i] = g[i] = b[i] = (uint8_t)cld_pixel_grey(r[i], g[i], b[i]);
}

CLD_CPU_VIEW(grey) {
    (void)s;
    size_t n = cld__view_pixels(c);
    to_grey(c->data, c->data + n, c->data + 2 * n, n);
}

/* ---- hue ----------------------------------------------------------------------------------------------- */

static void turn_hue_from(uint8_t *restrict r, uint8_t *restrict g, uint8_t *restrict b, size_t begin,
                          size_t n, int shift) {
    for (size_t i = begin; i < n; i++) cld_pixel_turn_hue(&r[i], &g[i], &b[i], shift);
}

#ifdef CLD_VIEW_AVX2
#    include <immintrin.h>

CLD_VIEW_AVX2 static inline __m256i load_levels(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}

CLD_VIEW_AVX2 static inline __m256i equal(__m256i a, __m256i b) { return _mm256_cmpeq_epi32(a, b); }

CLD_VIEW_AVX2 static inline __m256i choose(__m256i no, __m256i yes, __m256i mask) {
    return _mm256_blendv_epi8(no, yes, mask);
}

/* value * (1 - fall), rounded. */
CLD_VIEW_AVX2 static inline __m256i fallen(__m256 value, __m256 fall) {
    __m256 kept = _mm256_mul_ps(value, _mm256_sub_ps(_mm256_set1_ps(1.0f), fall));
    return _mm256_cvttps_epi32(_mm256_add_ps(kept, _mm256_set1_ps(0.5f)));
}

/* cld_pixel_turn_hue, step by step, for eight pixels. No compiler vectorizes it, because it has too many branches. */
CLD_VIEW_AVX2 static void turn_hue_avx2(uint8_t *restrict red, uint8_t *restrict green,
                                        uint8_t *restrict blue, size_t n, int shift) {
    const __m256i one = _mm256_set1_epi32(1), all = _mm256_set1_epi32(-1), zero = _mm256_setzero_si256();
    const __m256 ones = _mm256_set1_ps(1.0f), unit = _mm256_set1_ps(1.0f / 255.0f);
    const __m256 whole = _mm256_set1_ps(255.0f), minus = _mm256_set1_ps(-0.0f);
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        __m256i r = load_levels(red + i), g = load_levels(green + i), b = load_levels(blue + i);
        __m256i most = _mm256_max_epi32(_mm256_max_epi32(r, g), b);
        __m256i least = _mm256_min_epi32(_mm256_min_epi32(r, g), b);
        __m256i range = _mm256_sub_epi32(most, least);
        __m256i middle =
            _mm256_sub_epi32(_mm256_add_epi32(_mm256_add_epi32(r, g), b), _mm256_add_epi32(most, least));
        __m256 value = _mm256_cvtepi32_ps(most), spread = _mm256_cvtepi32_ps(range);
        __m256 x =
            _mm256_div_ps(_mm256_cvtepi32_ps(_mm256_sub_epi32(most, middle)), _mm256_max_ps(spread, ones));
        __m256i is_red = equal(r, most), is_green = _mm256_andnot_si256(is_red, equal(g, most));
        __m256i is_blue = _mm256_andnot_si256(_mm256_or_si256(is_red, is_green), all);
        __m256i no_blue = equal(b, least);
        __m256i odd = _mm256_or_si256(
            _mm256_and_si256(is_red, _mm256_andnot_si256(no_blue, equal(g, least))),
            _mm256_or_si256(_mm256_and_si256(is_green, no_blue), _mm256_and_si256(is_blue, equal(r, least))));
        /* 1 + 2 is_green + 4 is_blue - 2 odd; masks are -1 */
        __m256i base = _mm256_sub_epi32(_mm256_sub_epi32(_mm256_add_epi32(one, _mm256_slli_epi32(odd, 1)),
                                                         _mm256_slli_epi32(is_green, 1)),
                                        _mm256_slli_epi32(is_blue, 2));
        x = _mm256_xor_ps(x, _mm256_andnot_ps(_mm256_castsi256_ps(odd), minus));
        __m256 turn = _mm256_div_ps(_mm256_add_ps(_mm256_cvtepi32_ps(base), x), _mm256_set1_ps(6.0f));
        __m256 negative = _mm256_cmp_ps(turn, _mm256_setzero_ps(), _CMP_LT_OQ);
        turn = _mm256_add_ps(turn, _mm256_and_ps(negative, ones));
        __m256i hue =
            _mm256_andnot_si256(equal(range, zero), _mm256_cvttps_epi32(_mm256_mul_ps(turn, whole)));
        __m256 share = _mm256_div_ps(spread, _mm256_max_ps(value, ones));
        __m256i saturation = _mm256_cvttps_epi32(_mm256_mul_ps(share, whole));

        __m256i h = _mm256_and_si256(_mm256_add_epi32(hue, _mm256_set1_epi32(shift)), _mm256_set1_epi32(255));
        __m256i scaled = _mm256_add_epi32(_mm256_slli_epi32(h, 2), _mm256_slli_epi32(h, 1));
        __m256i sextant = _mm256_srli_epi32(_mm256_mulhi_epu16(scaled, _mm256_set1_epi32(0x8081)), 7);
        __m256i rest = _mm256_sub_epi32(_mm256_add_epi32(scaled, sextant), _mm256_slli_epi32(sextant, 8));
        __m256 f = _mm256_mul_ps(_mm256_cvtepi32_ps(rest), unit);
        __m256 s = _mm256_mul_ps(_mm256_cvtepi32_ps(saturation), unit);
        __m256i p = fallen(value, s), q = fallen(value, _mm256_mul_ps(s, f));
        __m256i t = fallen(value, _mm256_mul_ps(s, _mm256_sub_ps(ones, f)));
        __m256i k0 = _mm256_or_si256(equal(sextant, zero), equal(sextant, _mm256_set1_epi32(6)));
        __m256i k1 = equal(sextant, one), k2 = equal(sextant, _mm256_set1_epi32(2));
        __m256i k3 = equal(sextant, _mm256_set1_epi32(3)), k4 = equal(sextant, _mm256_set1_epi32(4));
        __m256i k5 = equal(sextant, _mm256_set1_epi32(5));
        r = choose(choose(choose(p, q, k1), t, k4), most, _mm256_or_si256(k0, k5));
        g = choose(choose(choose(p, t, k0), q, k3), most, _mm256_or_si256(k1, k2));
        b = choose(choose(choose(p, t, k2), q, k5), most, _mm256_or_si256(k3, k4));
        /* r r' g g' b b' - -, four levels each */
        __m256i levels = _mm256_packus_epi16(_mm256_packus_epi32(r, g), _mm256_packus_epi32(b, b));
        levels = _mm256_permutevar8x32_epi32(levels, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        __m128i rg = _mm256_castsi256_si128(levels);
        _mm_storel_epi64((__m128i *)(red + i), rg);
        _mm_storel_epi64((__m128i *)(green + i), _mm_unpackhi_epi64(rg, rg));
        _mm_storel_epi64((__m128i *)(blue + i), _mm256_extracti128_si256(levels, 1));
    }
    turn_hue_from(red, green, blue, i, n, shift);
}
#endif

CLD_CPU_VIEW(hue) {
    size_t n = cld__view_pixels(c);
    uint8_t *r = c->data, *g = r + n, *b = g + n;
#ifdef CLD_VIEW_AVX2
    if (cld__view_has_avx2()) {
        turn_hue_avx2(r, g, b, n, s->shift);
        return;
    }
#endif
    turn_hue_from(r, g, b, 0, n, s->shift);
}
