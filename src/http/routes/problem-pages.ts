import type { RequestHandler } from 'express'
import { type ErrorCode, GatewayError, type Lang } from '../../errors.ts'
import { type Html, html, type Page, sendHtml } from '../presentation/html.ts'
import { PROBLEMS } from '../presentation/problems.ts'

/** The page that a problem's `type` points at. Its content comes from the table, not from the request. */
export const problemPage: RequestHandler = function problemPage(req, res) {
  const { code } = req.params
  if (typeof code !== 'string' || !isErrorCode(code)) throw new GatewayError('not-found')
  const { lang } = req.context
  const { otherLang, otherName } = WORDS[lang]
  const nav = html`<nav><a href="?lang=${otherLang}" hreflang="${otherLang}" lang="${otherLang}">${otherName}</a></nav>`
  const { title, body } = describeProblem(code, lang)
  sendHtml(res, { lang, title, body: html`${nav}\n${body}` })
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(PROBLEMS, code)

/** The explanation of a problem for people. */
export const describeProblem = (code: ErrorCode, lang: Lang): Pick<Page, 'title' | 'body'> => ({
  title: PROBLEMS[code][lang].title,
  body: html`<main>\n${contentOf(code, lang)}\n</main>`,
})

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
      'as-known': 'Possibly. See the member “outcome” of the problem.',
    },
    retry: { yes: 'Yes, unchanged.', no: 'Not as it is. First follow the advice below.' },
    otherLang: 'zh',
    otherName: '中文',
  },
  zh: {
    headings: {
      happened: '问题描述',
      effect: '取消操作是否可能已生效？',
      retry: '是否可以原样重试？',
      advice: '处理建议',
    },
    effect: {
      'not-cancelled': '否。返回此错误的取消请求未产生任何更改。',
      unknown: '可能。网关无法判断返回此错误的取消请求是否已生效。',
      'no-cancel': '否。该请求未被作为取消请求处理。',
      'as-known': '可能。请查看错误信息中的 outcome 字段。',
    },
    retry: { yes: '是。无需修改请求。', no: '否。请先按照以下建议处理。' },
    otherLang: 'en',
    otherName: 'English',
  },
}
