import { createHash } from 'node:crypto'
import type { RequestHandler } from 'express'
import { type ErrorCode, GatewayError, type Lang } from '../errors.ts'
import { PROBLEMS } from './problem.ts'

/** The page that a problem's `type` points at. It is made of the table alone: nothing of the request is on it. */
export const problemPage: RequestHandler = function problemPage(req, res) {
  const { code } = req.params
  if (typeof code !== 'string' || !isErrorCode(code)) throw new GatewayError('not-found')
  const { lang } = req.context
  res.set({ 'Content-Language': lang, 'Content-Security-Policy': POLICY })
  res.type('html').send(pageOf(code, lang).markup)
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(PROBLEMS, code)

const STYLE = `
:root { color-scheme: light dark }
body { margin: 3rem auto; max-width: 38rem; padding: 0 1.25rem; font: 1rem/1.6 system-ui, sans-serif }
h1 { margin: 0; font-size: 1.6rem; line-height: 1.25 }
h2 { margin: 1.75rem 0 0; font-size: 1rem }
p { margin: .25rem 0 0; overflow-wrap: break-word }
nav { text-align: end }
`

// This page alone has a style, and no other style gets in.
const POLICY = [
  "default-src 'none'",
  `style-src 'sha256-${createHash('sha256').update(STYLE).digest('base64')}'`,
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join(';')

interface Html {
  readonly markup: string
}

const ESCAPES: Readonly<Record<string, string>> = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' }

/** Every value is escaped, unless it is made by this function itself. */
const html = (parts: TemplateStringsArray, ...values: readonly (string | number | Html)[]): Html => ({
  markup: String.raw(
    { raw: parts },
    ...values.map((value) => (typeof value === 'object' ? value.markup : escapeHtml(value))),
  ),
})

const escapeHtml = (value: string | number): string => String(value).replace(/[&<>"]/g, (sign) => ESCAPES[sign] ?? '')

const pageOf = (code: ErrorCode, lang: Lang): Html => {
  const { title } = PROBLEMS[code][lang]
  const { otherLang, otherName } = WORDS[lang]
  return html`<!doctype html>
<html lang="${lang}">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>${title}</title>
<style>${STYLE_MARKUP}</style>
</head>
<body>
<nav><a href="?lang=${otherLang}" hreflang="${otherLang}" lang="${otherLang}">${otherName}</a></nav>
<main>
${contentOf(code, lang)}
</main>
</body>
</html>
`
}

const contentOf = (code: ErrorCode, lang: Lang): Html => {
  const { status, retryable, [lang]: text } = PROBLEMS[code]
  const { headings, effect, retry } = WORDS[lang]
  return html`<h1>${text.title}</h1>
<p><code>${code}</code> · HTTP ${status}</p>
${section(headings.happened, text.happened)}
${section(headings.effect, effect[effectOf(code)])}
${section(headings.retry, retry[retryable ? 'yes' : 'no'])}
${section(headings.advice, text.advice)}`
}

// The hash is that of the text between the tags, to the letter.
const STYLE_MARKUP: Html = { markup: STYLE }

const section = (heading: string, text: string): Html => html`<h2>${heading}</h2>\n<p>${text}</p>`

/** Of a bug only the problem itself can tell: it can happen before or after sending. */
const effectOf = (code: ErrorCode) => (code === 'internal' ? 'as-known' : (PROBLEMS[code].outcome ?? 'no-cancel'))

interface Words {
  readonly headings: Readonly<Record<'happened' | 'effect' | 'retry' | 'advice', string>>
  readonly effect: Readonly<Record<ReturnType<typeof effectOf>, string>>
  readonly retry: Readonly<Record<'yes' | 'no', string>>
  readonly otherLang: Lang
  readonly otherName: string
}

const WORDS: Readonly<Record<Lang, Words>> = {
  en: {
    headings: {
      happened: 'What happened',
      effect: 'May a cancellation have taken effect?',
      retry: 'May the same request be sent again?',
      advice: 'What to do',
    },
    effect: {
      'not-cancelled': 'No. A cancellation that ends with this problem changed nothing.',
      unknown: 'Possibly. The gateway cannot tell whether a cancellation that ends with this problem took effect.',
      'no-cancel': 'No. The request never became a cancellation.',
      'as-known': 'Possibly. The member “outcome” of the problem says what is known.',
    },
    retry: { yes: 'Yes, as it is.', no: 'Not as it is. First do what is said below.' },
    otherLang: 'zh',
    otherName: '中文',
  },
  zh: {
    headings: {
      happened: '发生了什么',
      effect: '取消操作是否可能已生效？',
      retry: '能否原样重试？',
      advice: '该怎么做',
    },
    effect: {
      'not-cancelled': '不会。以此问题结束的取消请求没有产生任何更改。',
      unknown: '有可能。网关无法判断以此问题结束的取消请求是否已生效。',
      'no-cancel': '不会。该请求并未成为取消请求。',
      'as-known': '有可能。已知结果请见问题的 outcome 字段。',
    },
    retry: { yes: '可以，请求无需修改。', no: '不宜原样重试，请先按下文处理。' },
    otherLang: 'en',
    otherName: 'English',
  },
}
