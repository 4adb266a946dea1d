//! What the compiler calls for each load from memory, with `-sanitizer-coverage-trace-loads`: the unit in
//! which the work of a run is bounded.

macro_rules! loads {
    ($($name:ident),*) => {
        $(
            #[unsafe(no_mangle)]
            extern "C" fn $name(_: *const u8) {
                tests::meter::count_load();
            }
        )*
    };
}

loads!(
    __sanitizer_cov_load1,
    __sanitizer_cov_load2,
    __sanitizer_cov_load4,
    __sanitizer_cov_load8,
    __sanitizer_cov_load16
);
