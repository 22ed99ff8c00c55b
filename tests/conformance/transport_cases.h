/* SPDX-License-Identifier: Apache-2.0 */
/* transport_cases.h - the second half of the suite; see transport_suite.h. */
#ifndef GP_TRANSPORT_CASES_H
#define GP_TRANSPORT_CASES_H

int transport_end_cases(const char *label);

#endif
