import type { RequestHandler } from 'express'
import { type ErrorCode, GatewayError, type Lang } from '../../errors.ts'
import { type Html, html, type Page, sendHtml } from '../presentation/html.ts'
import { textOf } from '../presentation/problem.ts'
import { PROBLEMS, type ProblemText } from '../presentation/problems.ts'

/** The page that a problem's `type` points at. Its content comes from the table, not from the request. */
export const problemPage: RequestHandler = function problemPage(req, res) {
  const { code } = req.params
  if (typeof code !== 'string' || !isErrorCode(code)) throw new GatewayError('not-found')
  const { lang } = req.context
  const { title, body } = describeCode(code, lang)
  const index = html`<a href="../problems?lang=${lang}">${WORDS[lang].index}</a>`
  sendHtml(res, { lang, title, body: html`<nav>${index} · ${otherLanguage(lang)}</nav>\n${body}` })
}

/** The list of all problem pages. */
export const problemIndex: RequestHandler = function problemIndex(req, res) {
  const { lang } = req.context
  const { index: title } = WORDS[lang]
  const items = CODES.map(
    (code) => html`<li><a href="problems/${code}?lang=${lang}">${PROBLEMS[code][lang].title}</a></li>\n`,
  )
  const body = html`<nav>${otherLanguage(lang)}</nav>\n<main>\n<h1>${title}</h1>\n<ul>\n${items}</ul>\n</main>`
  sendHtml(res, { lang, title, body })
}

const isErrorCode = (code: string): code is ErrorCode => Object.hasOwn(PROBLEMS, code)

const CODES: readonly ErrorCode[] = Object.keys(PROBLEMS).filter(isErrorCode)

const otherLanguage = (lang: Lang): Html => {
  const { otherLang, otherName } = WORDS[lang]
  return html`<a href="?lang=${otherLang}" hreflang="${otherLang}" lang="${otherLang}">${otherName}</a>`
}

type Explained = Pick<GatewayError, 'code' | 'facts'>

/** The page of a code, which any request can have met. */
const describeCode = (code: ErrorCode, lang: Lang): Pick<Page, 'title' | 'body'> => {
  const { retryable, [lang]: text } = PROBLEMS[code]
  const { headings, effect, retry } = WORDS[lang]
  return {
    title: text.title,
    body: html`<main>
<h1>${text.title}</h1>
${section(headings.happened, text.happened)}
${section(headings.effect, effect[effectOf(code)])}
${section(headings.retry, retry[retryable ? 'yes' : 'no'])}
${section(headings.advice, text.advice)}
${detailsOf(code, text, lang)}
</main>`,
  }
}

/** The page of one problem, for the person who met it outside of a cancellation. */
export const describeProblem = (problem: Explained, lang: Lang, action: Html): Pick<Page, 'title' | 'body'> => {
  const text = textOf(problem, lang)
  return {
    title: text.title,
    body: html`<main>
<h1>${text.title}</h1>
<p>${text.happened}</p>
<p>${text.advice}</p>
<p>${action}</p>
${detailsOf(problem.code, text, lang)}
</main>`,
  }
}

const detailsOf = (code: ErrorCode, { technical }: ProblemText, lang: Lang): Html => html`<details>
<summary>${WORDS[lang].details}</summary>
<p><code>${code}</code> · HTTP ${PROBLEMS[code].status}</p>${technical === undefined ? '' : html`\n<p>${technical}</p>`}
</details>`

const section = (heading: string, text: string): Html => html`<h2>${heading}</h2>\n<p>${text}</p>`

/** Of a bug only the problem itself can tell: it can happen before or after sending. */
const effectOf = (code: ErrorCode) => (code === 'internal' ? 'as-known' : (PROBLEMS[code].outcome ?? 'no-cancel'))

interface Words {
  readonly headings: Readonly<Record<'happened' | 'effect' | 'retry' | 'advice', string>>
  readonly effect: Readonly<Record<ReturnType<typeof effectOf>, string>>
  readonly retry: Readonly<Record<'yes' | 'no', string>>
  readonly details: string
  readonly index: string
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
      'as-known': 'Possibly. The response states what is known of the cancellation.',
    },
    retry: { yes: 'Yes, unchanged.', no: 'Not as it is. First follow the advice below.' },
    details: 'Details for developers',
    index: 'All problems',
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
      'as-known': '可能。响应中说明了已知的取消结果。',
    },
    retry: { yes: '是。无需修改请求。', no: '否。请先按照以下建议处理。' },
    details: '开发人员详情',
    index: '全部错误',
    otherLang: 'en',
    otherName: 'English',
  },
}
