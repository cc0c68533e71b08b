//! Decides how an image comes out of an archive.

use super::add::Source;
use super::pull::check_layers;
use super::record::ImageRecord;
use super::{Image, Images};
use crate::archive::{self, Chosen, Spool};
use crate::config::ConfigFile;
use crate::error::{Fault, ImageError};
use crate::progress::{Progress, Watch};
use std::io::{self, Read};

impl Images {
    /// Takes an image from an OCI layout or a `docker save` archive, as tar, compressed or not.
    ///
    /// `name` chooses among several. It lasts as long as the archive takes to be read.
    pub async fn import(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<Image, ImageError> {
        let imported = self.import_now(archive, name, watch).await;
        imported.map_err(|error| match name {
            Some(name) => error.within(format_args!("importing {name}")),
            None => error.within("importing an archive"),
        })
    }

    async fn import_now(
        &self,
        archive: impl Read + Send + 'static,
        name: Option<&str>,
        watch: Watch<'_>,
    ) -> Result<Image, ImageError> {
        let (shared, name) = (self.shared.clone(), name.map(str::to_owned));
        let reading = tokio::task::spawn_blocking(move || {
            let spool = Spool::fill(archive, &shared.places.temp(), &shared.limits)?;
            let chosen = archive::choose(&spool, name.as_deref(), &shared.limits)?;
            Ok::<_, ImageError>((spool, chosen))
        });
        let read = reading.await.map_err(|error| Fault::Io(io::Error::other(error)));
        // The files are there until the image is.
        let (_spool, chosen) = read.map_err(|fault| fault.during("reading it"))??;
        let file = self.configuration(&chosen);
        let file = file.map_err(|fault| fault.during("reading its configuration"))?;
        watch(Progress::Resolved {
            digest: chosen.digest,
            layers: chosen.layers.len(),
        });
        let record = ImageRecord {
            digest: chosen.digest,
            reference: chosen.reference.map(|reference| reference.to_string()),
            config: file.config,
            layers: file.diff_ids,
        };
        let sources = chosen.layers.into_iter().map(Source::Archive);
        self.add(record, sources.collect(), watch).await
    }

    fn configuration(&self, chosen: &Chosen) -> Result<ConfigFile, Fault> {
        let file = ConfigFile::parse(&chosen.config)?;
        check_layers(&file, chosen.layers.len(), &self.shared.limits)?;
        Ok(file)
    }
}
