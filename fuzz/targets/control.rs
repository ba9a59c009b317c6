//! A fault that fuzzing must find, as a control: five specific bytes, which only coverage guidance finds, then
//! a read past the end of the input, which only AddressSanitizer detects. Without that, the panic after it is found.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if bytes.first() == Some(&b'Q')
        && bytes.get(1) == Some(&b'I')
        && bytes.get(2) == Some(&b'N')
        && bytes.get(3) == Some(&b'S')
        && bytes.len() > 4
    {
        // SAFETY: none; this is the fault.
        #[allow(unsafe_code)]
        let past = unsafe { bytes.as_ptr().add(bytes.len()).read_volatile() };
        panic!("found, with {past} behind the end");
    }
});
