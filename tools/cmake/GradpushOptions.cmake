# SPDX-License-Identifier: Apache-2.0
# Every option of the build, and what it comes to on this machine.
#
# A feature option is AUTO (use what is found), ON (fail without it) or OFF.
# The outcome is GP_WITH_<NAME>; the reason goes into the summary.

set(GP_FEATURES "")

# gp_feature(NAME help): declares the option GRADPUSH_<NAME>.
function(gp_feature name help)
  set(GRADPUSH_${name} AUTO CACHE STRING "${help} (AUTO, ON or OFF)")
  set_property(CACHE GRADPUSH_${name} PROPERTY STRINGS AUTO ON OFF)
  string(TOUPPER "${GRADPUSH_${name}}" value)
  if(value MATCHES "^(1|YES|TRUE|Y)$")
    set(value ON)
  elseif(value MATCHES "^(0|NO|FALSE|N)$")
    set(value OFF)
  elseif(NOT value MATCHES "^(AUTO|ON|OFF)$")
    message(FATAL_ERROR
      "GRADPUSH_${name} is '${GRADPUSH_${name}}': it takes AUTO, ON or OFF")
  endif()
  set(GRADPUSH_${name} ${value} PARENT_SCOPE)
  set(GP_WITH_${name} FALSE PARENT_SCOPE)
  set(GP_FEATURES ${GP_FEATURES} ${name} PARENT_SCOPE)
endfunction()

# gp_settle(NAME found what package): `what` names the thing that was found or
# is missing, `package` the Debian package that has it.
function(gp_settle name found what package)
  if(GRADPUSH_${name} STREQUAL "OFF")
    set(with FALSE)
    set(why "switched off")
  elseif(found)
    set(with TRUE)
    set(why "${what}")
  elseif(GRADPUSH_${name} STREQUAL "ON")
    message(FATAL_ERROR "GRADPUSH_${name}=ON, but ${what} was not found. "
      "On Debian: apt-get install ${package}. "
      "Without it: -DGRADPUSH_${name}=OFF")
  else()
    set(with FALSE)
    set(why "no ${what} (Debian: ${package})")
  endif()
  set(GP_WITH_${name} ${with} PARENT_SCOPE)
  set(GP_WHY_${name} "${why}" PARENT_SCOPE)
endfunction()

# gp_package(PREFIX module): pkg-config, or not found without pkg-config.
macro(gp_package prefix module)
  set(${prefix}_FOUND FALSE)
  if(PKG_CONFIG_FOUND)
    pkg_check_modules(${prefix} QUIET IMPORTED_TARGET ${module})
  endif()
endmacro()

function(gp_pad out text width)
  string(LENGTH "${text}" length)
  if(length LESS width)
    math(EXPR missing "${width} - ${length}")
    string(REPEAT " " ${missing} blanks)
    set(text "${text}${blanks}")
  endif()
  set(${out} "${text}" PARENT_SCOPE)
endfunction()

function(gp_summary_row name option state why)
  gp_pad(name "${name}" 10)
  gp_pad(option "${option}" 7)
  gp_pad(state "${state}" 6)
  message(STATUS "  ${name}${option}${state}${why}")
endfunction()

function(gp_print_summary)
  set(build "${CMAKE_BUILD_TYPE}")
  if(GRADPUSH_SANITIZE)
    string(APPEND build " with -fsanitize=${GRADPUSH_SANITIZE}")
  endif()
  message(STATUS "gradpush ${PROJECT_VERSION}: ${build}, "
    "${CMAKE_C_COMPILER_ID} ${CMAKE_C_COMPILER_VERSION}")
  gp_summary_row(feature option built why)
  foreach(name ${GP_FEATURES})
    set(state no)
    if(GP_WITH_${name})
      set(state yes)
    endif()
    gp_summary_row(${name} ${GRADPUSH_${name}} ${state} "${GP_WHY_${name}}")
  endforeach()
endfunction()

gp_feature(LZ4 "the lz4 stage of codec pipelines")
gp_feature(ZSTD "the zstd stage of codec pipelines")
gp_feature(TLS "job tokens and digests through OpenSSL")
gp_feature(CUDA "CUDA device memory through the driver interface")
gp_feature(KERNELS "codecs as CUDA kernels; sanitized builds leave them out")
gp_feature(VERBS "RDMA through libibverbs and librdmacm")
gp_feature(HWLOC "the choice of near RDMA devices through hwloc")
gp_feature(TRAINER "the example trainer, gradpush-train")
gp_feature(TOOLS "the gradpush command")
gp_feature(TESTS "the tests")
gp_feature(FUZZ "fuzz targets; ON: libFuzzer programs, clang only")

option(GRADPUSH_WERROR "treat warnings as errors" ${PROJECT_IS_TOP_LEVEL})
option(GRADPUSH_COVERAGE "instrument for gcov" OFF)
option(GRADPUSH_FEW_ROUNDS "tests repeat no more than under sanitizers" OFF)
set(GRADPUSH_LEAVE_OUT "" CACHE STRING
  "test programs that are not built, as a regular expression: unit/test_topk.*")
set(GRADPUSH_SANITIZE "" CACHE STRING
  "sanitizers for everything, such as address,undefined or thread")
if(NOT CMAKE_BUILD_TYPE AND NOT CMAKE_CONFIGURATION_TYPES)
  set(CMAKE_BUILD_TYPE Release)
endif()

set(THREADS_PREFER_PTHREAD_FLAG ON)
find_package(Threads REQUIRED)
find_package(PkgConfig QUIET)

gp_package(GP_LZ4 liblz4)
gp_settle(LZ4 "${GP_LZ4_FOUND}" "liblz4 ${GP_LZ4_VERSION}" liblz4-dev)

gp_package(GP_ZSTD libzstd)
gp_settle(ZSTD "${GP_ZSTD_FOUND}" "libzstd ${GP_ZSTD_VERSION}" libzstd-dev)

find_package(OpenSSL 1.1 QUIET COMPONENTS Crypto)
gp_settle(TLS "${OPENSSL_FOUND}" "OpenSSL ${OPENSSL_VERSION}" libssl-dev)

# Headers only: the driver and libibverbs are loaded at run time. Those of an
# nvcc on the PATH are beside it.
find_program(GP_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH
  PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(GP_NVCC)
  file(REAL_PATH "${GP_NVCC}" toolkit)
  cmake_path(GET toolkit PARENT_PATH toolkit)
  cmake_path(GET toolkit PARENT_PATH toolkit)
endif()
find_path(GP_CUDA_INCLUDE cuda.h HINTS ENV CUDA_HOME ENV CUDA_PATH ${toolkit}
  PATHS /usr/local/cuda PATH_SUFFIXES include)
if(GP_CUDA_INCLUDE)
  gp_settle(CUDA TRUE "driver loaded at run time; ${GP_CUDA_INCLUDE}" "")
else()
  gp_settle(CUDA FALSE cuda.h nvidia-cuda-dev)
endif()

# Kernels are compiled for devices alone: nothing of the CUDA runtime is linked.
set(GRADPUSH_CUDA_ARCHITECTURES "80;90" CACHE STRING
  "compute capabilities that kernels are compiled for; the last also as PTX")
if(NOT GP_WITH_CUDA)
  set(GP_WHY_KERNELS "of use with CUDA only")
elseif(GRADPUSH_SANITIZE AND NOT GRADPUSH_KERNELS STREQUAL "ON")
  set(GP_WHY_KERNELS "not in sanitized builds")
else()
  gp_settle(KERNELS "${GP_NVCC}" "nvcc, for ${GRADPUSH_CUDA_ARCHITECTURES}"
    nvidia-cuda-toolkit)
endif()

find_path(GP_VERBS_INCLUDE infiniband/verbs.h)
find_path(GP_RDMACM_INCLUDE rdma/rdma_cma.h)
if(NOT GP_VERBS_INCLUDE)
  gp_settle(VERBS FALSE infiniband/verbs.h "libibverbs-dev librdmacm-dev")
elseif(NOT GP_RDMACM_INCLUDE)
  gp_settle(VERBS FALSE rdma/rdma_cma.h librdmacm-dev)
else()
  gp_settle(VERBS TRUE
    "libraries loaded at run time; ${GP_VERBS_INCLUDE}" "")
endif()

gp_package(GP_HWLOC hwloc)
if(GP_HWLOC_FOUND AND GP_HWLOC_VERSION VERSION_LESS 2.0)
  set(GP_HWLOC_FOUND FALSE)
endif()
if(GP_WITH_VERBS)
  gp_settle(HWLOC "${GP_HWLOC_FOUND}" "hwloc ${GP_HWLOC_VERSION}" libhwloc-dev)
else()
  set(GP_WHY_HWLOC "of use with VERBS only")
endif()

# The trainer multiplies matrices through CBLAS, reads .gz through zlib, writes
# JSON through jansson and names its result by a digest of OpenSSL.
gp_package(GP_CBLAS openblas)
if(NOT GP_CBLAS_FOUND)
  gp_package(GP_CBLAS cblas)
endif()
gp_package(GP_ZLIB zlib)
gp_package(GP_JANSSON jansson)
if(NOT GP_CBLAS_FOUND)
  gp_settle(TRAINER FALSE "CBLAS" libopenblas-dev)
elseif(NOT GP_ZLIB_FOUND)
  gp_settle(TRAINER FALSE "zlib" zlib1g-dev)
elseif(NOT GP_JANSSON_FOUND)
  gp_settle(TRAINER FALSE "jansson" libjansson-dev)
elseif(NOT OPENSSL_FOUND)
  gp_settle(TRAINER FALSE "OpenSSL" libssl-dev)
else()
  gp_settle(TRAINER TRUE "${GP_CBLAS_MODULE_NAME} ${GP_CBLAS_VERSION}" "")
endif()

if(GP_JANSSON_FOUND)
  gp_settle(TOOLS TRUE "with --json, jansson ${GP_JANSSON_VERSION}" "")
else()
  gp_settle(TOOLS TRUE "without --json (Debian: libjansson-dev)" "")
endif()

gp_package(CMOCKA cmocka)
if(GRADPUSH_TESTS STREQUAL "AUTO" AND NOT PROJECT_IS_TOP_LEVEL)
  set(GRADPUSH_TESTS OFF)
endif()
gp_settle(TESTS "${CMOCKA_FOUND}" "cmocka ${CMOCKA_VERSION}" libcmocka-dev)

if(NOT GP_WITH_TESTS)
  set(GP_WHY_FUZZ "part of the tests")
elseif(NOT GRADPUSH_FUZZ STREQUAL "ON")
  gp_settle(FUZZ TRUE "replays corpus and mutations; ON: libFuzzer" "")
else()
  include(CheckCSourceCompiles)
  set(CMAKE_REQUIRED_FLAGS -fsanitize=fuzzer)
  check_c_source_compiles("#include <stddef.h>
    int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);
    int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
    { (void)data; (void)size; return 0; }" GP_LIBFUZZER)
  unset(CMAKE_REQUIRED_FLAGS)
  gp_settle(FUZZ "${GP_LIBFUZZER}" "libFuzzer of ${CMAKE_C_COMPILER}"
    "clang libclang-rt-14-dev, then CC=clang")
endif()
