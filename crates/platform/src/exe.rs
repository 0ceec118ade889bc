//! The running executable: where it is loaded, where its code lies, and which file it is.
//!
//! Workers are started from the same file, at another random address. A function is therefore named by its distance from
//! the load address, and that name is valid only for functions of the main executable: a shared library moves by itself.

use std::os::unix::fs::MetadataExt;
use std::sync::OnceLock;
use std::{io, ptr};

/// Load address of the main executable and the extent of its executable segments, in bytes from that address.
#[derive(Clone, Copy, Debug)]
pub struct Image {
    base: usize,
    text_start: usize,
    text_end: usize,
}

/// Which file the executable is; two processes with equal identities run the same code. While one of them runs, its inode is no other
/// file's, and nobody can write to it (ETXTBSY), so length and times say no more; they change when somebody merely touches it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Device of the file.
    pub dev: u64,
    /// Inode of the file.
    pub ino: u64,
}

impl Image {
    /// The image of this process, looked up once (`dl_iterate_phdr(3)`; the first entry is the main program).
    pub fn current() -> Image {
        static IMAGE: OnceLock<Image> = OnceLock::new();
        *IMAGE.get_or_init(find)
    }

    /// The distance of `function` from the load address, or `None` when it lies outside the executable's code, as a
    /// function of a shared library or a plug-in does.
    pub fn offset_of(&self, function: *const ()) -> Option<u64> {
        let offset = (function as usize).checked_sub(self.base)?;
        (self.text_start..self.text_end).contains(&offset).then_some(offset as u64)
    }

    /// The inverse of [`Image::offset_of`]; `None` when `offset` is outside the code.
    pub fn address_of(&self, offset: u64) -> Option<*const ()> {
        let offset = usize::try_from(offset).ok()?;
        (self.text_start..self.text_end)
            .contains(&offset)
            .then(|| ptr::with_exposed_provenance(self.base + offset))
    }
}

/// The identity of `/proc/self/exe`.
pub fn identity() -> io::Result<Identity> {
    let meta = std::fs::metadata("/proc/self/exe")?;
    Ok(Identity { dev: meta.dev(), ino: meta.ino() })
}

fn find() -> Image {
    let mut image = Image { base: 0, text_start: usize::MAX, text_end: 0 };
    // SAFETY: `visit` has the signature that dl_iterate_phdr(3) asks for, and `image` outlives the call.
    unsafe { libc::dl_iterate_phdr(Some(visit), (&raw mut image).cast()) };
    image
}

/// Takes the first entry, which is the main program, and stops the iteration.
extern "C" fn visit(info: *mut libc::dl_phdr_info, _size: usize, data: *mut libc::c_void) -> i32 {
    // SAFETY: the loader passes a valid `info` whose `dlpi_phdr` has `dlpi_phnum` entries, and `data` is the pointer
    // to the `Image` that `find` passed.
    let (info, image) = unsafe { (&*info, &mut *data.cast::<Image>()) };
    // SAFETY: as above.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    image.base = info.dlpi_addr as usize;
    for header in headers.iter().filter(|h| h.p_type == libc::PT_LOAD && h.p_flags & libc::PF_X != 0) {
        image.text_start = image.text_start.min(header.p_vaddr as usize);
        image.text_end = image.text_end.max((header.p_vaddr + header.p_memsz) as usize);
    }
    1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_of_ours_has_an_offset_and_one_of_libc_has_none() {
        let image = Image::current();
        let ours = find as *const ();
        let offset = image.offset_of(ours).expect("inside the executable");
        assert_eq!(image.address_of(offset), Some(ours));
        assert_eq!(image.offset_of(libc::getpid as *const ()), None);
        assert_eq!(image.address_of(u64::MAX), None);
    }
}
