const isOws = (code: number): boolean => code === 0x20 || code === 0x09

/**
 * Cuts space and tab at both ends, and nothing else (OWS, RFC 9110, 5.6.3; RFC 6265bis for cookies). `trim()` also cuts
 * U+00A0, U+FEFF and others, which browsers and proxies keep: they would read another name or address than this
 * program. By index, since a regular expression takes quadratic time on long runs of spaces.
 */
export const trimOws = (text: string): string => {
  let [start, end] = [0, text.length]
  while (start < end && isOws(text.charCodeAt(start))) start += 1
  while (end > start && isOws(text.charCodeAt(end - 1))) end -= 1
  return text.slice(start, end)
}
