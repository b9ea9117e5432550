/** A root element other than a page's, after an optional declaration. */
const ROOT = /^(?:<\?xml[^<>]{0,200}\?>\s{0,99})?<(?!html\b)([a-z]\w{0,63})(?:\s[^<>]{0,500})?>/i

const TEXT_ELEMENT = /^<(\w+)>\s{0,99}([\w.-]{1,100})\s{0,99}<\/\1>/
const ELEMENT_MAX = 500

/**
 * The failure body as the vendor sends it in XML, `<Error><RequestId>…</RequestId><Code>…</Code>…</Error>`: the texts of the
 * first element of each name, null where one is absent or is more than a name. Null for text that is not a whole document
 * or that has comments, sections or a document type: those could hold an element that does not count.
 */
export const readXmlFailure = (
  document: string,
): { readonly Code: string | null; readonly RequestId: string | null } | null => {
  const text = document.trim()
  const root = ROOT.exec(text)?.[1]
  if (root === undefined || text.includes('<!') || !text.endsWith(`</${root}>`)) return null
  return { Code: firstText(text, /<code[\s/>]/i), RequestId: firstText(text, /<requestid[\s/>]/i) }
}

const firstText = (text: string, start: RegExp): string | null => {
  const at = text.search(start)
  return at < 0 ? null : (TEXT_ELEMENT.exec(text.slice(at, at + ELEMENT_MAX))?.[2] ?? null)
}
