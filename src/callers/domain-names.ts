import { domainToASCII, domainToUnicode } from 'node:url'

/** With the dot at its end. A name in another form than A-labels is shorter, unless its letters come in many parts. */
const TEXT_MAX = 254
const NAME = /^(?=.{1,253}$)([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z]([a-z0-9-]{0,61}[a-z0-9])?$/

/**
 * A domain's name in lower-case A-labels, without a dot at its end; null if the text is none. The platform's conversion
 * also decodes, cuts and maps, so a text that is not the same name in either form is refused.
 */
export const toDomain = (text: string): string | null => {
  // Normalising takes time that grows with the square of the length.
  if (text.length > TEXT_MAX) return null
  const lower = text.toLowerCase()
  if (NAME.test(lower) && !lower.includes('xn--')) return lower
  return convert(lower)
}

const convert = (text: string): string | null => {
  const given = text.normalize().replace(/\.$/, '')
  const name = domainToASCII(given)
  const labels = given.split('.')
  // Conversion takes Cherokee letters, and no others, to capitals.
  const unicode = (label: string): string => domainToUnicode(label).toLowerCase()
  const isSame = name.split('.').every((label, index) => [label, unicode(label)].includes(labels[index] ?? ''))
  return NAME.test(name) && isSame ? name : null
}

/** `example.com`, or `*.example.com` for everything below it, in the form of `toDomain`; null for another text. */
export const toDomainPattern = (text: string): string | null => {
  const [wildcard = '', name] = /^(\*\.)?(.*)$/s.exec(text)?.slice(1) ?? []
  const domain = toDomain(name ?? '')
  return domain === null ? null : `${wildcard}${domain}`
}

/** Whether a pattern covers a domain, both in those forms. A wildcard stands for one label or more, never for none. */
export const coversDomain = (pattern: string, domain: string): boolean =>
  pattern.startsWith('*.') ? domain.endsWith(pattern.slice(1)) : domain === pattern
