import { promisify } from 'node:util'
import { brotliDecompress, gunzip, inflate, inflateRaw } from 'node:zlib'

type Decode = (body: Buffer, limit: { readonly maxOutputLength: number }) => Promise<Buffer>

const [gunzipped, zlibInflated, rawInflated, unbrotlied] = [
  promisify<Buffer, object, Buffer>(gunzip),
  promisify<Buffer, object, Buffer>(inflate),
  promisify<Buffer, object, Buffer>(inflateRaw),
  promisify<Buffer, object, Buffer>(brotliDecompress),
]

/** The method that the first byte of a zlib stream (RFC 1950, 2.2) names. Some servers leave the zlib format out. */
const isZlib = (body: Buffer): boolean => ((body[0] ?? 0) & 0x0f) === 8

/** Encodings that a server or middlebox applies although `identity` was asked for. Names: RFC 9110, 8.4.1. */
const DECODERS: Readonly<Record<string, Decode>> = {
  gzip: gunzipped,
  'x-gzip': gunzipped,
  deflate: (body, limit) => (isZlib(body) ? zlibInflated : rawInflated)(body, limit),
  br: unbrotlied,
}

const ENCODINGS_MAX = 3

/**
 * A body without its content encodings; null where it is longer than that. A body that can't be decoded is returned as
 * it is: a server that names an encoding which it did not apply is understood, and other bytes are no JSON.
 */
export const decodeBody = async (
  body: Buffer,
  header: string | undefined,
  maxBytes: number,
): Promise<Buffer | null> => {
  const names = (header ?? '')
    .toLowerCase()
    .split(',', ENCODINGS_MAX)
    .map((name) => name.trim())
  let decoded = body
  for (const name of names.reverse()) {
    const decode = DECODERS[name]
    if (decode === undefined) continue
    try {
      decoded = await decode(decoded, { maxOutputLength: maxBytes })
    } catch (error) {
      return isTooLarge(error) ? null : decoded
    }
  }
  return decoded
}

const isTooLarge = (error: unknown): boolean =>
  error instanceof Error && 'code' in error && error.code === 'ERR_BUFFER_TOO_LARGE'
