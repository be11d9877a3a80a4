/* Which instruction set the kernels are compiled for, and the rounding profile of the program.
 *
 * QC_MVE       Armv8.1-M Helium (Cortex-M55): 16 int8 lanes.
 * QC_DSP       Armv7E-M and Armv8-M with the DSP extension (Cortex-M4, M7, M33): two 16-bit products per instruction.
 * QC_PORTABLE  C99 only: every other core, and the host.
 *
 * The first that the compiler offers is taken; -DQC_PORTABLE=1 forces the last. The layout of packed weights depends
 * on this choice (README.md), so the generated model states the one it was packed for with QC_EXPECT_LAYOUT.
 *
 * QC_PROFILE states how accumulators are rescaled, for the whole program: see qc_fixed_point.h.
 */
#ifndef QC_ISA_H
#define QC_ISA_H

#define QC_LAYOUT_PLAIN 0 /* portable */
#define QC_LAYOUT_PAIRS 1 /* DSP */
#define QC_LAYOUT_FOURS 2 /* MVE */

#if defined(QC_PORTABLE)
/* forced */
#elif defined(__ARM_FEATURE_MVE) && (__ARM_FEATURE_MVE & 1) && defined(__GNUC__)
#define QC_MVE 1
#elif defined(__ARM_FEATURE_DSP) && (__ARM_FEATURE_DSP == 1) && !defined(__aarch64__) && defined(__GNUC__)
#define QC_DSP 1
#else
#define QC_PORTABLE 1
#endif

#if defined(QC_DSP)
#define QC_LAYOUT QC_LAYOUT_PAIRS
#elif defined(QC_MVE)
#define QC_LAYOUT QC_LAYOUT_FOURS
#else
#define QC_LAYOUT QC_LAYOUT_PLAIN
#endif

#if defined(QC_EXPECT_LAYOUT)
#if QC_EXPECT_LAYOUT != QC_LAYOUT
#error "the weights of this model are packed for another instruction set; compile it for the core it was made for"
#endif
#endif

#endif
