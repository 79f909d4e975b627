# find_package(@name@ CONFIG REQUIRED PATHS <this directory>) defines the target @name@::@name@, the static library.
if(NOT TARGET @name@::@name@)
  add_library(@name@::@name@ STATIC IMPORTED)
  set_target_properties(@name@::@name@ PROPERTIES
    IMPORTED_LOCATION "${CMAKE_CURRENT_LIST_DIR}/lib@name@.a"
    INTERFACE_INCLUDE_DIRECTORIES "${CMAKE_CURRENT_LIST_DIR}"
    INTERFACE_LINK_LIBRARIES m)
endif()
