import { closeSync, fstatSync, openSync, readSync } from 'node:fs'
import { endianness } from 'node:os'

/** The state of the log by its index. */
interface LogIndex {
  readonly bytes: Buffer
  readonly frames: number
  readonly frameBytes: number
  readonly salt: Buffer
}

// https://www.sqlite.org/walformat.html#the_wal_index_file_format : two copies, in the byte order of the machine
const COPY_BYTES = 48
const INDEX_VERSION = 3_007_000
// https://www.sqlite.org/fileformat2.html#the_write_ahead_log
const HEADER_BYTES = 32
const FRAME_HEADER_BYTES = 24
const MAGIC = 0x377f0682

/**
 * Detects that another program has cut or overwritten the write-ahead log of an open database. SQLite does not notice:
 * it trusts its index, reports commits behind the gap as durable, and moves damaged pages to the main file later. Both
 * checks return the fault in one word, or null. Call it once SQLite has made the log and its index.
 */
export const createLogGuard = (path: string) => {
  // The index stays open as long as the database: closing a descriptor would give up SQLite's locks on it (POSIX).
  const [log, index] = [openSync(`${path}-wal`, 'r'), openSync(`${path}-shm`, 'r')]
  const stamp = (): string => {
    const { size, mtimeNs } = fstatSync(log, { bigint: true })
    return `${size}.${mtimeNs}`
  }
  let known = stamp()

  /** A log that another program writes meanwhile is compared the next time. */
  const compare = (find: (log: number, index: LogIndex) => string | null): string | null => {
    const before = readIndex(index)
    if (before === null) return 'SHM_TRUNCATED'
    if (!isInUse(before)) return null
    const fault = find(log, before)
    return fault !== null && readIndex(index)?.bytes.equals(before.bytes) === true ? fault : null
  }

  return {
    /** Compares size, header and last frame with the index. */
    check: () => compare(findOutside),
    /** Compares each frame with its checksum, where another program has written since `noteWritten`. */
    checkFrames: (): string | null => {
      const current = stamp()
      if (current === known) return null
      known = current
      return compare(findInside)
    },
    /** The log is as this process left it. */
    noteWritten: (): void => {
      known = stamp()
    },
    close: (): void => {
      closeSync(log)
      closeSync(index)
    },
  }
}

const readAt = (descriptor: number, bytes: number, at: number): Buffer => {
  const buffer = Buffer.alloc(bytes)
  return buffer.subarray(0, readSync(descriptor, buffer, 0, bytes, at))
}

const readIndex = (descriptor: number): LogIndex | null => {
  const bytes = readAt(descriptor, 2 * COPY_BYTES, 0)
  if (bytes.length < 2 * COPY_BYTES) return null
  const isLittle = endianness() === 'LE'
  const pageSize = isLittle ? bytes.readUInt16LE(14) : bytes.readUInt16BE(14)
  return {
    bytes,
    frames: isLittle ? bytes.readUInt32LE(16) : bytes.readUInt32BE(16),
    frameBytes: FRAME_HEADER_BYTES + (pageSize === 1 ? 65_536 : pageSize),
    salt: bytes.subarray(32, 40),
  }
}

/**
 * Both copies are the same and complete; SQLite makes any other index again from the log. An empty log has no frames.
 */
const isInUse = ({ bytes, frames }: LogIndex): boolean => {
  const version = endianness() === 'LE' ? bytes.readUInt32LE(0) : bytes.readUInt32BE(0)
  const isWhole = bytes.subarray(0, COPY_BYTES).equals(bytes.subarray(COPY_BYTES))
  return isWhole && version === INDEX_VERSION && bytes.readUInt8(12) === 1 && frames > 0
}

const findOutside = (log: number, { frames, frameBytes, salt }: LogIndex): string | null => {
  if (fstatSync(log).size < HEADER_BYTES + frames * frameBytes) return 'WAL_TRUNCATED'
  const header = readAt(log, HEADER_BYTES, 0)
  const last = readAt(log, FRAME_HEADER_BYTES, HEADER_BYTES + (frames - 1) * frameBytes)
  const isSame = isHeader(header) && header.subarray(16, 24).equals(salt) && last.subarray(8, 16).equals(salt)
  return isSame ? null : 'WAL_OVERWRITTEN'
}

const isHeader = (header: Buffer): boolean => {
  if (header.length < HEADER_BYTES) return false
  const sum = checksum([0, 0], header.subarray(0, 24), isBigEndian(header))
  return (header.readUInt32BE(0) | 1) === (MAGIC | 1) && isSum(sum, header.subarray(24))
}

const findInside = (log: number, index: LogIndex): string | null => {
  const fault = findOutside(log, index)
  if (fault !== null) return fault
  const header = readAt(log, HEADER_BYTES, 0)
  if (!isHeader(header)) return 'WAL_OVERWRITTEN'
  let sum: Sum = [header.readUInt32BE(24), header.readUInt32BE(28)]
  for (let frame = 0; frame < index.frames; frame += 1) {
    const bytes = readAt(log, index.frameBytes, HEADER_BYTES + frame * index.frameBytes)
    if (bytes.length < index.frameBytes) return 'WAL_TRUNCATED'
    sum = checksum(sum, bytes.subarray(0, 8), isBigEndian(header))
    sum = checksum(sum, bytes.subarray(FRAME_HEADER_BYTES), isBigEndian(header))
    if (!isSum(sum, bytes.subarray(16, 24))) return 'WAL_OVERWRITTEN'
  }
  return null
}

type Sum = readonly [number, number]

const isBigEndian = (header: Buffer): boolean => (header.readUInt32BE(0) & 1) === 1

const isSum = ([first, second]: Sum, bytes: Buffer): boolean =>
  bytes.readUInt32BE(0) === first && bytes.readUInt32BE(4) === second

/** Continues from the sum of the bytes before. https://www.sqlite.org/fileformat2.html#checksum_algorithm */
const checksum = ([first, second]: Sum, bytes: Buffer, isBig: boolean): Sum => {
  let [a, b] = [first, second]
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at + 8 <= bytes.length; at += 8) {
    a = (a + view.getUint32(at, !isBig) + b) >>> 0
    b = (b + view.getUint32(at + 4, !isBig) + a) >>> 0
  }
  return [a, b]
}
