//! `miren disk`: what outlives the sandboxes of an app, how large it is, who has it, and its end.

use crate::app_folder;
use crate::failure::{Doing, Failure};
use crate::options::AppOptions;
use crate::table::{Cell, Table, Tone, or_dash};
use crate::{Context, ago, paths, prompt};
use clap::{Args, Subcommand};
use miren_api::AppName;
use miren_api::app_file::DISK_GB_MAX;
use miren_api::resource::{DeletedDisk, Disk, DiskState, GrowRequest, SnapshotRequest};
use miren_api::settings::Bytes;

#[derive(Debug, Subcommand)]
pub enum DiskVerb {
    /// All disks, also those of apps that are gone
    List {
        /// Only this app's
        #[arg(short, long, value_name = "APP")]
        app: Option<String>,
    },
    /// One disk
    Show(DiskOptions),
    /// Make a disk larger, where the machine allows it also while it is in use; set the new size_gb in app.toml too
    Grow {
        #[command(flatten)]
        disk: DiskOptions,
        /// Its new size in GiB
        #[arg(long, value_name = "GB", value_parser = clap::value_parser!(u32).range(1..=i64::from(DISK_GB_MAX)))]
        size_gb: u32,
    },
    /// Copy a disk as it is now to a new one of the same app, also while it is in use
    Snapshot {
        #[command(flatten)]
        disk: DiskOptions,
        /// Name of the new disk
        to: String,
    },
    /// Delete a disk that no sandbox has, with all that is on it
    Delete {
        #[command(flatten)]
        disk: DiskOptions,
        /// Do not ask
        #[arg(short, long)]
        force: bool,
    },
}

/// A disk of an app.
#[derive(Debug, Args)]
pub struct DiskOptions {
    /// Its name
    name: String,
    #[command(flatten)]
    app: AppOptions,
}

impl DiskOptions {
    fn resolve(&self) -> Result<(AppName, String), Failure> {
        let app = app_folder::resolve(&self.app)?;
        let path = paths::of_disk(app.as_str(), &self.name);
        Ok((app, path))
    }
}

pub async fn run(verb: DiskVerb, context: &mut Context<'_>) -> Result<(), Failure> {
    let client = context.client()?;
    match verb {
        DiskVerb::List { app } => {
            let path = paths::with_query(paths::DISKS, &[("app", app)]);
            let disks: Vec<Disk> = client.list(&path).await.doing(|| "listing disks".into())?;
            context.console.list(&disks, "disks", table(&disks))
        }
        DiskVerb::Show(options) => {
            let (_, path) = options.resolve()?;
            let disk: Disk = client
                .get(&path)
                .await
                .doing(|| format!("showing disk {}", options.name))?;
            context.console.thing(&disk, &fields(&disk))
        }
        DiskVerb::Grow { disk, size_gb } => {
            let (_, path) = disk.resolve()?;
            let grown: Disk = client
                .post(&format!("{path}/grow"), &GrowRequest { size_gb })
                .await
                .doing(|| format!("growing disk {}", disk.name))?;
            let done = format!(
                "Disk {} has {} now; set size_gb = {size_gb} in app.toml",
                grown.name,
                size(&grown)
            );
            context.console.done(&grown, &done)
        }
        DiskVerb::Snapshot { disk, to } => {
            let (app, path) = disk.resolve()?;
            let made: Disk = client
                .post(&format!("{path}/snapshot"), &SnapshotRequest { name: to })
                .await
                .doing(|| format!("copying disk {}", disk.name))?;
            let done = format!("Disk {} of {app} has what {} had", made.name, disk.name);
            context.console.done(&made, &done)
        }
        DiskVerb::Delete { disk, force } => delete(&disk, force, context).await,
    }
}

async fn delete(disk: &DiskOptions, force: bool, context: &mut Context<'_>) -> Result<(), Failure> {
    let (app, path) = disk.resolve()?;
    let name = &disk.name;
    if !force && !confirmed(name, &app).await? {
        return Err(Failure::failed(format!("disk {name} was not deleted")).code("not_confirmed"));
    }
    let client = context.client()?;
    let deleted: DeletedDisk = client.delete(&path).await.doing(|| format!("deleting disk {name}"))?;
    context
        .console
        .done(&deleted, &format!("Deleted disk {name} of app {app}"))
}

/// Without a terminal there is nobody to ask, so `-f` is needed.
async fn confirmed(name: &str, app: &AppName) -> Result<bool, Failure> {
    let remedy = format!("miren disk delete {name} -a {app} -f");
    prompt::attended(&format!("deleting disk {name} needs a yes"), &remedy)?;
    prompt::yes(&format!("Delete disk {name} of app {app} with all that is on it?")).await
}

fn table(disks: &[Disk]) -> Table {
    let mut table = Table::new(&["name", "app", "size", "used", "filesystem", "state", "leased by"])
        .cut(&["leased by"])
        .lists(&["leased by"])
        .leave(&["filesystem", "used", "leased by", "size", "app"]);
    for disk in disks {
        table.row(vec![
            disk.name.as_str().into(),
            disk.app.as_str().into(),
            size(disk).into(),
            used(disk).into(),
            or_dash(disk.filesystem.as_ref()).into(),
            state(disk),
            holders(disk).into(),
        ]);
    }
    table
}

fn fields(disk: &Disk) -> Vec<(&'static str, String)> {
    let mut fields = vec![
        ("Disk", disk.name.clone()),
        ("App", disk.app.to_string()),
        ("Provider", or_dash(disk.provider.as_ref())),
        ("Size", size(disk)),
        ("Used", used(disk)),
        ("Filesystem", or_dash(disk.filesystem.as_ref())),
        ("State", word(disk.state).to_owned()),
        ("Leased by", holders(disk)),
        ("Created", ago::since(disk.created_at)),
    ];
    fields.extend(disk.reason.clone().map(|reason| ("Reason", reason)));
    fields
}

fn size(disk: &Disk) -> String {
    or_dash(disk.size_gb.map(|size| format!("{size}GiB")).as_ref())
}

/// In whole MiB, rounded up.
fn used(disk: &Disk) -> String {
    let used = disk.used_bytes.map(|used| Bytes(used.next_multiple_of(1 << 20)));
    or_dash(used.as_ref())
}

fn holders(disk: &Disk) -> String {
    let ids: Vec<&str> = disk.leased_by.iter().map(|id| id.as_str()).collect();
    or_dash((!ids.is_empty()).then(|| ids.join(", ")).as_ref())
}

fn word(state: DiskState) -> &'static str {
    match state {
        DiskState::Attached => "attached",
        DiskState::Detached => "detached",
        DiskState::Damaged => "damaged",
    }
}

fn state(disk: &Disk) -> Cell {
    let tone = match disk.state {
        DiskState::Attached => Tone::Good,
        DiskState::Detached => return Cell::from(word(disk.state)),
        DiskState::Damaged => Tone::Bad,
    };
    Cell::toned(word(disk.state), tone)
}
