/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rounds.h - how often tests repeat what finds more the more often it runs.
 * Sanitizers see in a few rounds what they are there to see, and take many
 * times as long for each.
 */
#ifndef GP_TEST_ROUNDS_H
#define GP_TEST_ROUNDS_H

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define GP_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define GP_SANITIZED 1
#endif
#endif

#ifdef GP_SANITIZED
#define GP_ROUNDS(rounds, sanitized) (sanitized)
#else
#define GP_ROUNDS(rounds, sanitized) (rounds)
#endif

#endif
