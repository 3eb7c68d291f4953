//! The file of a backup, as `proto/xmpp/federation/v1/backup.proto` has it: written record by record,
//! and read piece by piece with everything checked that the file says about itself.
//!
//! The digest tells damage, whoever did it; what a record says is for others to judge. A record that
//! would not be written the same way again says something that this version does not know, and is
//! refused: restored, it would be lost without a word.

use aws_lc_rs::digest::{Context, SHA256};
use prost::{Message as _, encoding::encoded_len_varint};

use super::v1::{BackupHeader, BackupRecord, BackupTrailer, backup_record::Record};

/// What every file begins with.
pub const MAGIC: &[u8; 16] = b"partnerd backup\n";

/// The format that this version writes and reads.
pub const FORMAT: i32 = 1;

/// The largest record. The largest partner takes a third of it.
pub const MAX_RECORD_BYTES: usize = 1 << 20;

/// The bytes of the longest length of a record.
const MAX_LENGTH_BYTES: usize = 3;

/// A SHA-256.
pub type Digest = [u8; 32];

/// Writes records one after the other.
pub struct Encoder {
    digest: Context,
    /// The records after the header.
    records: i64,
}

impl Encoder {
    /// Begins a file in `out`.
    pub fn begin(header: BackupHeader, out: &mut Vec<u8>) -> Self {
        let mut encoder = Self { digest: Context::new(&SHA256), records: -1 };
        encoder.digest.update(MAGIC);
        out.extend_from_slice(MAGIC);
        encoder.add(Record::Header(header), out);
        encoder
    }

    /// Adds a record to `out`.
    pub fn add(&mut self, record: Record, out: &mut Vec<u8>) {
        let start = out.len();
        frame(record, out);
        self.digest.update(&out[start..]);
        self.records += 1;
    }

    /// Ends the file in `out`; `seal` makes of the digest the trailer's key and signature. Nothing
    /// may follow.
    pub fn end(&mut self, seal: impl FnOnce(Digest) -> (String, String), out: &mut Vec<u8>) {
        let digest = finished(self.digest.clone());
        let (public_key, signature) = seal(digest);
        let digest = hex(&digest);
        let trailer = BackupTrailer { record_count: self.records, digest, public_key, signature };
        frame(Record::Trailer(trailer), out);
    }
}

fn frame(record: Record, out: &mut Vec<u8>) {
    let record = BackupRecord { record: Some(record) };
    record.encode_length_delimited(out).expect("a vector has room");
}

/// Why a file is no backup, or not one that can be believed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadBackup {
    /// Something else.
    #[error("it does not begin as a backup of partnerd does")]
    Foreign,
    /// Of a later version.
    #[error("its format is {0}, and this version knows {FORMAT}; use the version that wrote it")]
    Format(i32),
    /// Not what was written.
    #[error("record {0} cannot be read; the file is damaged")]
    Unreadable(u64),
    /// A header, trailer or other record where none belongs.
    #[error("record {0} is out of place; the file is damaged")]
    OutOfPlace(u64),
    /// Of a later version, in one record at least.
    #[error("record {0} says something that this version does not know; use the one that wrote it")]
    Unknown(u64),
    /// The end is missing.
    #[error("it ends after {0} records and has no last one; it was cut short")]
    CutShort(u64),
    /// Something was added.
    #[error("something follows its last record")]
    TooLong,
    /// Records are missing, or there are more.
    #[error("its records are not as many, or not of the kinds, that it says it has")]
    Count,
    /// Not what was written.
    #[error("its SHA-256 does not fit; it was damaged or changed")]
    Digest,
}

/// Reads a file as it comes.
pub struct Reader {
    /// What has come and was not read yet.
    pending: Vec<u8>,
    place: Place,
    digest: Context,
    /// The number of the next record; the header's is 0.
    number: u64,
    header: BackupHeader,
    /// How many records of each kind there were.
    counts: Counts,
    trailer: BackupTrailer,
    /// The first record that says more than this version knows.
    unknown: Option<u64>,
}

/// How many records of each kind a header lists, or a file has.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Counts {
    partners: i64,
    deleted_partners: i64,
    roles: i64,
    revocations: i64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Start,
    Header,
    Records,
    End,
}

/// A file that is whole, as far as it can tell by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Whole {
    /// Its first record.
    pub header: BackupHeader,
    /// The SHA-256 over all before its last record.
    pub digest: Digest,
    /// Its last record.
    pub trailer: BackupTrailer,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            pending: Vec::new(),
            place: Place::Start,
            digest: Context::new(&SHA256),
            number: 0,
            header: BackupHeader::default(),
            counts: Counts::default(),
            trailer: BackupTrailer::default(),
            unknown: None,
        }
    }
}

impl Reader {
    /// Takes the next piece. `each` is given every record between header and trailer, with its
    /// number, once it is there as a whole. Whether the file is to be believed is known at its end.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn read(
        &mut self,
        piece: &[u8],
        mut each: impl FnMut(u64, Record),
    ) -> Result<(), BadBackup> {
        self.pending.extend_from_slice(piece);
        let mut read = 0;
        loop {
            let rest = &self.pending[read..];
            if self.place == Place::Start {
                let there = rest.len().min(MAGIC.len());
                if rest[..there] != MAGIC[..there] {
                    return Err(BadBackup::Foreign);
                }
                if there < MAGIC.len() {
                    break;
                }
                self.digest.update(MAGIC);
                self.place = Place::Header;
                read += MAGIC.len();
                continue;
            }
            if self.place == Place::End && !rest.is_empty() {
                return Err(BadBackup::TooLong);
            }
            let unreadable = BadBackup::Unreadable(self.number);
            let Some(frame) = Frame::at_start_of(rest).ok_or(unreadable.clone())? else { break };
            let record = BackupRecord::decode(frame.body).map_err(|_| unreadable)?;
            if record.encode_to_vec() != frame.body {
                self.unknown.get_or_insert(self.number);
            }
            read += frame.whole.len();
            if !matches!(record.record, Some(Record::Trailer(_))) {
                self.digest.update(frame.whole);
            }
            self.place(record.record, &mut each)?;
            self.number += 1;
        }
        self.pending.drain(..read);
        Ok(())
    }

    /// What the file says it is of; empty until that is read.
    pub const fn header(&self) -> &BackupHeader {
        &self.header
    }

    /// Ends the file.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn end(self) -> Result<Whole, BadBackup> {
        if self.place != Place::End || !self.pending.is_empty() {
            return Err(match self.place {
                Place::Start if self.pending.is_empty() => BadBackup::Foreign,
                _ => BadBackup::CutShort(self.number),
            });
        }
        let Self { digest, number, header, counts, trailer, unknown, .. } = self;
        let digest = finished(digest);
        if trailer.digest != hex(&digest) {
            return Err(BadBackup::Digest);
        }
        // Neither the header nor the trailer counts.
        let records = number - 2;
        match unknown {
            Some(number) => Err(BadBackup::Unknown(number)),
            None if u64::try_from(trailer.record_count) != Ok(records) => Err(BadBackup::Count),
            None if counts != Counts::listed(&header) => Err(BadBackup::Count),
            None => Ok(Whole { header, digest, trailer }),
        }
    }

    /// Puts a record where it belongs.
    fn place(
        &mut self,
        record: Option<Record>,
        each: &mut impl FnMut(u64, Record),
    ) -> Result<(), BadBackup> {
        match (self.place, record) {
            (Place::Header, Some(Record::Header(header))) => {
                if header.format != FORMAT {
                    return Err(BadBackup::Format(header.format));
                }
                self.header = header;
                self.place = Place::Records;
            }
            (Place::Records, Some(Record::Trailer(trailer))) => {
                self.trailer = trailer;
                self.place = Place::End;
            }
            (Place::Records, None) => {
                self.unknown.get_or_insert(self.number);
            }
            (Place::Records, Some(record)) if !matches!(record, Record::Header(_)) => {
                self.counts.add(&record);
                each(self.number, record);
            }
            _ => return Err(BadBackup::OutOfPlace(self.number)),
        }
        Ok(())
    }
}

impl Counts {
    const fn listed(header: &BackupHeader) -> Self {
        Self {
            partners: header.partner_count,
            deleted_partners: header.deleted_partner_count,
            roles: header.role_count,
            revocations: header.revocation_count,
        }
    }

    fn add(&mut self, record: &Record) {
        match record {
            Record::AllowedPartner(partner) if partner.delete_time.is_some() => {
                self.deleted_partners += 1;
            }
            Record::AllowedPartner(_) => self.partners += 1,
            Record::Role(_) => self.roles += 1,
            Record::Revocation(_) => self.revocations += 1,
            Record::Header(_) | Record::FederationSettings(_) | Record::Trailer(_) => {}
        }
    }
}

/// A record with its length before it.
struct Frame<'a> {
    whole: &'a [u8],
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    /// The first frame of `bytes`, once all of it is there; `None` if none can begin like this.
    fn at_start_of(bytes: &'a [u8]) -> Option<Option<Self>> {
        let Some(end) = bytes.iter().take(MAX_LENGTH_BYTES).position(|byte| byte & 0x80 == 0)
        else {
            return if bytes.len() < MAX_LENGTH_BYTES { Some(None) } else { None };
        };
        let length = prost::decode_length_delimiter(&bytes[..=end]).ok()?;
        // A length is written in one way only, so that no two files say the same.
        if length > MAX_RECORD_BYTES || encoded_len_varint(length as u64) != end + 1 {
            return None;
        }
        let whole = bytes.get(..end + 1 + length);
        Some(whole.map(|whole| Self { whole, body: &whole[end + 1..] }))
    }
}

fn finished(digest: Context) -> Digest {
    let mut bytes = Digest::default();
    bytes.copy_from_slice(digest.finish().as_ref());
    bytes
}

/// Lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

impl std::fmt::Debug for Encoder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Encoder").field("records", &self.records).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Reader {
    /// Without what has come, which may hold the dialback passphrase.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reader").field("number", &self.number).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::v1::{AllowedPartner, FederationSettings};

    fn partner(domain: &str) -> Record {
        let name = format!("allowedPartners/{domain}");
        Record::AllowedPartner(AllowedPartner { name, ..AllowedPartner::default() })
    }

    fn header() -> BackupHeader {
        BackupHeader { format: FORMAT, revision: 7, partner_count: 2, ..BackupHeader::default() }
    }

    fn file(records: Vec<Record>) -> Vec<u8> {
        let mut file = Vec::new();
        let mut encoder = Encoder::begin(header(), &mut file);
        records.into_iter().for_each(|record| encoder.add(record, &mut file));
        encoder.end(|digest| (hex(&digest), "signature".into()), &mut file);
        file
    }

    fn some() -> Vec<Record> {
        let settings = FederationSettings { connection_limit: 3, ..FederationSettings::default() };
        vec![Record::FederationSettings(settings), partner("a.example"), partner("b.example")]
    }

    /// What is read of a file that comes in pieces of this size.
    fn read(file: &[u8], size: usize) -> Result<(Whole, Vec<Record>), BadBackup> {
        let mut reader = Reader::default();
        let mut records = Vec::new();
        for piece in file.chunks(size) {
            reader.read(piece, |number, record| {
                assert!(number > records.len() as u64);
                records.push(record);
            })?;
        }
        Ok((reader.end()?, records))
    }

    #[test]
    fn a_file_is_read_as_it_was_written_however_it_is_cut_into_pieces() {
        let file = file(some());
        assert!(file.starts_with(MAGIC));
        for size in [1, 2, 7, 64, file.len()] {
            let (whole, records) = read(&file, size).unwrap();
            assert_eq!((&whole.header, records), (&header(), some()));
            assert_eq!(
                (whole.trailer.record_count, whole.trailer.public_key),
                (3, hex(&whole.digest))
            );
        }
    }

    #[test]
    fn no_bit_before_the_key_can_be_flipped_and_no_byte_be_missing_or_added() {
        let file = file(some());
        // The key and its signature are for those to hold against the digest who know of keys.
        let known = file.len() - "\x1a\x40".len() - 64 - "\x22\x09signature".len();
        for bit in 0..known * 8 {
            let mut flipped = file.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(read(&flipped, 64).is_err(), "bit {bit}");
        }
        for length in 0..file.len() {
            let cut = read(&file[..length], 64).unwrap_err();
            assert!(matches!(cut, BadBackup::CutShort(_) | BadBackup::Foreign), "{length}: {cut}");
        }
        assert_eq!(read(&[&file[..], b"x"].concat(), 64), Err(BadBackup::TooLong));
        assert_eq!(read(&[&file[..], &file[..]].concat(), 64), Err(BadBackup::TooLong));
    }

    #[test]
    fn records_exchanged_left_out_or_said_twice_are_found() {
        let whole = file(some());
        let body = |domain: &str| {
            let mut frame = Vec::new();
            super::frame(partner(domain), &mut frame);
            frame
        };
        let (a, b) = (body("a.example"), body("b.example"));
        let at = whole.windows(a.len()).position(|window| window == a).unwrap();
        let (before, after) = (&whole[..at], &whole[at + a.len() + b.len()..]);
        for changed in [[&b[..], &a].concat(), a.clone(), [&a[..], &b, &b].concat()] {
            let file = [before, &changed, after].concat();
            assert_eq!(read(&file, 64), Err(BadBackup::Digest));
        }
    }

    #[test]
    fn a_header_that_lists_other_records_is_found() {
        assert_eq!(read(&file(some()[..2].to_vec()), 64), Err(BadBackup::Count));
    }

    #[test]
    fn other_files_later_formats_and_what_is_not_known_are_named() {
        assert_eq!(read(b"PK\x03\x04 is a zip file", 64), Err(BadBackup::Foreign));
        assert_eq!(read(b"", 64), Err(BadBackup::Foreign));
        let mut later = Vec::new();
        let header = BackupHeader { format: FORMAT + 1, ..BackupHeader::default() };
        Encoder::begin(header, &mut later);
        assert_eq!(read(&later, 64), Err(BadBackup::Format(FORMAT + 1)));

        // A field 99 in a partner, and a record of a kind 14, each under a digest that fits.
        for unknown in [&b"\x2a\x03\x98\x06\x01"[..], b"\x72\x00"] {
            let mut file = Vec::new();
            let mut encoder = Encoder::begin(self::header(), &mut file);
            let frame = [&[u8::try_from(unknown.len()).unwrap()], unknown].concat();
            encoder.digest.update(&frame);
            encoder.records += 1;
            file.extend(&frame);
            encoder.end(|_| Default::default(), &mut file);
            assert_eq!(read(&file, 64), Err(BadBackup::Unknown(1)));
        }
    }

    #[test]
    fn a_record_that_is_too_large_is_refused_before_it_is_there() {
        let mut file = file(Vec::new());
        file.truncate(MAGIC.len());
        file.extend(b"\xff\xff\x7f");
        assert_eq!(read(&file, 64), Err(BadBackup::Unreadable(0)));
        file.truncate(MAGIC.len());
        file.extend(b"\xff\xff\xff");
        assert_eq!(read(&file, 64), Err(BadBackup::Unreadable(0)));
    }
}
