/** Each costs time and memory, however little it holds. */
const CHUNKS_MAX = 10_000

/** The text of an answer; null as soon as it is longer than that, or comes in more than 10,000 pieces. */
export const readBounded = async ({ body }: Response, maxBytes: number): Promise<string | null> => {
  const chunks: Uint8Array[] = []
  let size = 0
  for await (const chunk of body ?? []) {
    size += chunk.length
    chunks.push(chunk)
    if (size > maxBytes || chunks.length > CHUNKS_MAX) return null
  }
  return Buffer.concat(chunks).toString('utf8')
}
