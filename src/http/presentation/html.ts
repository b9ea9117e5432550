import { createHash } from 'node:crypto'
import type { Response } from 'express'
import type { Lang } from '../../errors.ts'
import { csp } from './csp.ts'

/** Markup that is safe to send. */
export interface Html {
  readonly markup: string
}

type HtmlValue = string | number | Html | readonly Html[]

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

/** Every value is escaped, unless it is made by this function itself. */
export const html = (parts: TemplateStringsArray, ...values: readonly HtmlValue[]): Html => ({
  markup: String.raw({ raw: parts }, ...values.map(markupOf)),
})

const markupOf = (value: HtmlValue): string => {
  if (typeof value !== 'object') return escapeHtml(value)
  return 'markup' in value ? value.markup : value.map(({ markup }) => markup).join('')
}

const escapeHtml = (value: string | number): string => String(value).replace(/[&<>"]/g, (sign) => ESCAPES[sign] ?? '')

const STYLE = `
:root { color-scheme: light dark }
body { margin: 2rem auto; max-width: 42rem; padding: 0 1rem; font: 1rem/1.5 system-ui, sans-serif;
  color: light-dark(#17202b, #e8edf3); background: light-dark(#f4f6f9, #10151c) }
main { padding: 1.5rem 1.75rem; border: 1px solid light-dark(#d5dbe3, #33404f); border-radius: 10px;
  background: light-dark(#fff, #19212b) }
h1 { margin: 0 0 1rem; font-size: 1.6rem; line-height: 1.25 }
h2 { margin: 1.5rem 0 0; font-size: 1rem }
p { margin: .25rem 0 0; overflow-wrap: break-word }
p + p { margin-top: .75rem }
nav { margin: 0 0 1rem; text-align: end }
a, summary { color: light-dark(#1a56b0, #8ab8ff) }
.button { display: inline-block; margin: .5rem 0 0; padding: .5rem 1rem; border-radius: 8px; font-weight: 500;
  color: light-dark(#fff, #0c1c33); background: light-dark(#1a56b0, #8ab8ff); text-decoration: none }
:focus-visible { outline: 3px solid light-dark(#1a56b0, #8ab8ff); outline-offset: 2px }
details { margin: 1.5rem 0 0 }
summary { cursor: pointer }
ul { margin: 0; padding-inline-start: 1.25rem }
li + li { margin-top: .35rem }
`

// The hash is that of the text between the tags, to the letter.
const STYLE_MARKUP: Html = { markup: STYLE }

/** Allows that style, and nothing else. */
const POLICY = csp({ 'style-src': `'sha256-${createHash('sha256').update(STYLE).digest('base64')}'` })

export interface Page {
  readonly lang: Lang
  readonly title: string
  readonly head?: Html
  readonly body: Html
}

const NOTHING: Html = { markup: '' }

/** A small page for people, which loads nothing. */
export const sendHtml = (res: Response, { lang, title, head = NOTHING, body }: Page): void => {
  const { markup } = html`<!doctype html>
<html lang="${lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
${head}<style>${STYLE_MARKUP}</style>
</head>
<body>
${body}
</body>
</html>
`
  res.set({ 'Content-Language': lang, 'Content-Security-Policy': POLICY }).type('html').send(markup)
}
