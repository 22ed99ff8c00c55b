# SPDX-License-Identifier: Apache-2.0
# Flags of gradpush's own code, as the interface library gp_flags. Nothing here
# reaches a program that links an installed gradpush.
#
# -ffp-contract=off: a sum has the same bits on every machine of a job. There is
# no -march: code for newer processors is chosen at run time.

set(CMAKE_C_STANDARD 11)
set(CMAKE_C_STANDARD_REQUIRED ON)

add_library(gp_flags INTERFACE)
target_compile_definitions(gp_flags INTERFACE _GNU_SOURCE)
target_compile_options(gp_flags INTERFACE -Wall -Wextra -Wshadow -Wconversion
  -Wno-sign-conversion -Wstrict-prototypes -Wmissing-prototypes
  -fno-math-errno -ffp-contract=off -fstack-protector-strong)
target_link_options(gp_flags INTERFACE -Wl,-z,relro,-z,now)
target_include_directories(gp_flags INTERFACE
  ${CMAKE_CURRENT_SOURCE_DIR}/include)
# Instrumented code makes compilers warn about what is not there.
if(GRADPUSH_WERROR AND NOT GRADPUSH_SANITIZE)
  target_compile_options(gp_flags INTERFACE -Werror)
endif()
if(GRADPUSH_SANITIZE)
  # Their reports need names and lines, no more.
  target_compile_options(gp_flags INTERFACE -O1 -g1 -fno-omit-frame-pointer
    -fsanitize=${GRADPUSH_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(gp_flags INTERFACE -fsanitize=${GRADPUSH_SANITIZE})
else()
  target_compile_options(gp_flags INTERFACE
    $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-U_FORTIFY_SOURCE>
    $<$<CONFIG:Release,RelWithDebInfo,MinSizeRel>:-D_FORTIFY_SOURCE=2>)
endif()
if(GRADPUSH_COVERAGE)
  target_compile_options(gp_flags INTERFACE --coverage -O0 -g)
  target_link_options(gp_flags INTERFACE --coverage)
endif()
if(GRADPUSH_FUZZ STREQUAL "ON")
  target_compile_options(gp_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
