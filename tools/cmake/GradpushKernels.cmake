# SPDX-License-Identifier: Apache-2.0
# Compiles .cu files for devices and puts them into a library: each file becomes
# an image of all architectures, which the driver takes as it is.
#
# --fmad=false and IEEE division: kernels have the bits of the reference.

set(GP_NVCC_FLAGS -std=c++17 -O3 --fmad=false -lineinfo
  -I${PROJECT_SOURCE_DIR} -I${PROJECT_SOURCE_DIR}/lib)
if(GRADPUSH_WERROR)
  list(APPEND GP_NVCC_FLAGS -Werror all-warnings)
endif()
foreach(arch ${GRADPUSH_CUDA_ARCHITECTURES})
  list(APPEND GP_NVCC_FLAGS -gencode arch=compute_${arch},code=sm_${arch})
endforeach()
list(GET GRADPUSH_CUDA_ARCHITECTURES -1 arch)
list(APPEND GP_NVCC_FLAGS -gencode arch=compute_${arch},code=compute_${arch})

# gp_kernels(SOURCES NAME FILES...): adds a file with the images of the .cu files
# to the list of sources, arrays NAME_images and NAME_image_names (of the files,
# without ".cu") that end with NULL.
function(gp_kernels list symbol)
  set(folder ${CMAKE_CURRENT_BINARY_DIR}/kernels)
  set(images "")
  set(symbols "")
  set(names "")
  set(outputs "")
  if(GP_WITH_KERNELS)
    file(MAKE_DIRECTORY ${folder})
    foreach(source ${ARGN})
      get_filename_component(name ${source} NAME_WE)
      set(image ${folder}/${name}.fatbin)
      add_custom_command(OUTPUT ${image}
        COMMAND ${GP_NVCC} ${GP_NVCC_FLAGS} -fatbin -MD -MF ${image}.d
          -o ${image} ${source}
        DEPENDS ${source} DEPFILE ${image}.d
        COMMENT "Compiling kernels ${name}.cu" VERBATIM)
      list(APPEND outputs ${image})
      string(APPEND images "__asm__(\".section .rodata\\n.balign 16\\n\"\n"
        "        \"${symbol}_image_${name}:\\n.incbin \\\"${image}\\\"\\n\"\n"
        "        \".previous\\n\");\n"
        "extern const unsigned char ${symbol}_image_${name}[]\n"
        "    __attribute__((visibility(\"hidden\")));\n")
      string(APPEND symbols "    ${symbol}_image_${name},\n")
      string(APPEND names "    \"${name}\",\n")
    endforeach()
  endif()
  file(GENERATE OUTPUT ${folder}/images.c CONTENT
    "/* Made by tools/cmake/GradpushKernels.cmake. */\n\
#include <stddef.h>\n\n\
extern const void *const ${symbol}_images[];\n\
extern const char *const ${symbol}_image_names[];\n\
${images}\
const void *const ${symbol}_images[] = {\n${symbols}    NULL};\n\
const char *const ${symbol}_image_names[] = {\n${names}    NULL};\n")
  set_property(SOURCE ${folder}/images.c PROPERTY OBJECT_DEPENDS ${outputs})
  set(${list} ${${list}} ${folder}/images.c PARENT_SCOPE)
endfunction()
