//! A method of a process that was closed.

use swath::Process;

fn main() -> swath::Result<()> {
    swath::init();
    let process = Process::spawn(|_: ()| (), ())?;
    process.join()?;
    process.close()?;
    println!("{}", process.is_alive());
    Ok(())
}
