/* SPDX-License-Identifier: Apache-2.0 */
/*
 * rounds.h - how often tests repeat what finds more the more often it runs.
 * Sanitizers see in a few rounds what they are there to see, and take many
 * times as long for each. GRADPUSH_FEW_ROUNDS asks for as few in builds beside
 * one that runs them all.
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

#if defined(GP_SANITIZED) || defined(GP_FEW_ROUNDS)
#define GP_ROUNDS(rounds, few) (few)
#else
#define GP_ROUNDS(rounds, few) (rounds)
#endif

#endif
