# SPDX-License-Identifier: Apache-2.0
# What `cmake --install` copies, and how programs outside find it: pkg-config
# and find_package(gradpush). Both are relative to where they lie, so that an
# installed tree can be moved.
include(CMakePackageConfigHelpers)

set(package ${CMAKE_INSTALL_LIBDIR}/cmake/gradpush)
set(generated ${CMAKE_CURRENT_BINARY_DIR}/package)

install(TARGETS gradpush_shared EXPORT gradpushTargets
  LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS gradpush_static EXPORT gradpushStaticTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS gradpush_conformance EXPORT gradpushConformanceTargets
  ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(FILES ${GP_PUBLIC_HEADERS}
  DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/gradpush)
install(EXPORT gradpushTargets NAMESPACE gradpush:: DESTINATION ${package})
install(EXPORT gradpushStaticTargets NAMESPACE gradpush::
  DESTINATION ${package})
install(EXPORT gradpushConformanceTargets NAMESPACE gradpush::
  DESTINATION ${package})

configure_package_config_file(
  ${CMAKE_CURRENT_LIST_DIR}/gradpushConfig.cmake.in
  ${generated}/gradpushConfig.cmake INSTALL_DESTINATION ${package})
write_basic_package_version_file(${generated}/gradpushConfigVersion.cmake
  COMPATIBILITY SameMinorVersion)
install(FILES ${generated}/gradpushConfig.cmake
  ${generated}/gradpushConfigVersion.cmake DESTINATION ${package})

# A path below the prefix, or the absolute one that was asked for.
function(gp_pc_path out folder)
  if(IS_ABSOLUTE "${folder}")
    set(${out} "${folder}" PARENT_SCOPE)
  else()
    set(${out} "\${prefix}/${folder}" PARENT_SCOPE)
  endif()
endfunction()

if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
  set(GP_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
else()
  file(RELATIVE_PATH up /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
  string(REGEX REPLACE "/$" "" up "${up}")
  set(GP_PC_PREFIX "\${pcfiledir}/${up}")
endif()
gp_pc_path(GP_PC_LIBDIR "${CMAKE_INSTALL_LIBDIR}")
gp_pc_path(GP_PC_INCLUDEDIR "${CMAKE_INSTALL_INCLUDEDIR}")
set(GP_PC_DL "")
if(CMAKE_DL_LIBS)
  set(GP_PC_DL " -l${CMAKE_DL_LIBS}")
endif()
set(GP_PC_REQUIRES "")
if(GP_WITH_LZ4)
  list(APPEND GP_PC_REQUIRES liblz4)
endif()
if(GP_WITH_ZSTD)
  list(APPEND GP_PC_REQUIRES libzstd)
endif()
if(GP_WITH_TLS)
  list(APPEND GP_PC_REQUIRES libcrypto)
endif()
# Not as a requirement: hwloc.pc wants the development files of what hwloc was
# built with, such as libudev, of every static link.
set(GP_PC_HWLOC "")
if(GP_WITH_HWLOC)
  list(JOIN GP_HWLOC_LDFLAGS " " GP_PC_HWLOC)
  string(PREPEND GP_PC_HWLOC " ")
endif()
string(REPLACE ";" ", " GP_PC_REQUIRES "${GP_PC_REQUIRES}")
foreach(name gradpush gradpush-conformance)
  configure_file(${CMAKE_CURRENT_LIST_DIR}/${name}.pc.in
    ${generated}/${name}.pc @ONLY)
  install(FILES ${generated}/${name}.pc
    DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
endforeach()

install(FILES README.md LICENSE CHANGELOG.md
  DESTINATION ${CMAKE_INSTALL_DOCDIR})
# In the folders they have in the source, so that links lead from one to another.
install(DIRECTORY docs bench DESTINATION ${CMAKE_INSTALL_DOCDIR}
  FILES_MATCHING PATTERN docs/*.md PATTERN codecs/*.md
  PATTERN results/*.md PATTERN results/*.png PATTERN gpu EXCLUDE)
file(GLOB examples CONFIGURE_DEPENDS
  ${CMAKE_CURRENT_SOURCE_DIR}/examples/[0-9]*.c)
install(FILES ${examples} DESTINATION ${CMAKE_INSTALL_DOCDIR}/examples)
