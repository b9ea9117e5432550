/** A root element other than a page's, after an optional declaration. */
const ROOT = /^(?:<\?xml[^<>]{0,200}\?>\s{0,99})?<(?!html\b)([a-z]\w{0,63})(?:\s[^<>]{0,500})?>/i

const TEXT_ELEMENT = /^<(\w+)(?:\s[^<>]{0,200})?>\s{0,99}([\w.-]{1,100})\s{0,99}<\/\1>/
const ELEMENT_MAX = 500

/**
 * The failure body as the vendor sends it in XML, `<Error><RequestId>…</RequestId><Code>…</Code>…</Error>`: the texts
 * of the first element of each name, null where one is absent or is more than a name. Elements in comments and in
 * sections of text do not count. Null for text that is not a whole document or that has a document type.
 */
export const readXmlFailure = (
  document: string,
): { readonly Code: string | null; readonly RequestId: string | null } | null => {
  const text = plainMarkup(document)?.trim()
  if (text === undefined) return null
  const root = ROOT.exec(text)?.[1]
  if (root === undefined || !text.endsWith(`</${root}>`)) return null
  return { Code: firstText(text, /<code[\s/>]/i), RequestId: firstText(text, /<requestid[\s/>]/i) }
}

const [COMMENT, SECTION] = [
  ['<!--', '-->'],
  ['<![CDATA[', ']]>'],
] as const

/** A document without comments, and with the text of CDATA sections in their place; undefined where one has no end. */
const plainMarkup = (document: string): string | undefined => {
  const parts: string[] = []
  for (let at = 0; ; ) {
    const start = document.indexOf('<!', at)
    parts.push(document.slice(at, start < 0 ? document.length : start))
    if (start < 0) return parts.join('')
    const construct = [COMMENT, SECTION].find(([open]) => document.startsWith(open, start))
    if (construct === undefined) return undefined
    const [open, close] = construct
    const end = document.indexOf(close, start + open.length)
    if (end < 0) return undefined
    // Characters of markup in a section are text, and part of no name.
    if (construct === SECTION) parts.push(document.slice(start + open.length, end).replace(/[<>&]/g, '?'))
    at = end + close.length
  }
}

const firstText = (text: string, start: RegExp): string | null => {
  const at = text.search(start)
  return at < 0 ? null : (TEXT_ELEMENT.exec(text.slice(at, at + ELEMENT_MAX))?.[2] ?? null)
}
