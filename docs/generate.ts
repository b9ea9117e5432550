import { readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { textFault } from '../src/settings/text.ts'
import { GROUPS, type Setting } from '../src/settings.ts'
import { dashboardJson } from './dashboard.ts'

// `npm run docs` writes `.env.example`, and the tables of `docs/configuration.md`, from the rows of `src/settings.ts`,
// and the dashboard of Grafana from `docs/dashboard.ts`.

const ROOT = join(import.meta.dirname, '..')
const ENV_EXAMPLE = '.env.example'
const DASHBOARD = 'deploy/grafana/dashboard.json'
const CONFIGURATION = 'docs/configuration.md'
const LINE_MAX = 110

const ENV_HEADER = `# Settings of the gateway, with examples. docs/configuration.md describes them in full. Written by npm run docs.
# Copy this file to .env for development. A variable of the environment takes precedence over the file.
# Texts in <angle brackets> are refused at the start until they are replaced.
# An empty variable counts as not set, except for NAME_CLAIM.
# A faulty variable stops the start with a message that names it.
# A secret can come as NAME_FILE, the path of a file, instead.`

/** The tables stand between these two lines. The text around them is written by hand. */
const [BEGIN, END] = ['<!-- Written by npm run docs from src/settings.ts -->', '<!-- End of the tables -->']

/** The rule that the start reports for a faulty text, such as this control character. */
const ruleOf = ({ schema, characters = 'visible' }: Setting): string => {
  const { error } = schema.safeParse('\0')
  const rule = error?.issues[0]?.message ?? (characters === 'visible' ? null : textFault('\0', characters))
  return rule === null ? '' : `${rule.charAt(0).toUpperCase()}${rule.slice(1)}.`
}

const needsOf = (names: readonly string[] = [], separator: string): string =>
  names.length === 0 ? '' : `Needs ${names.map((name) => `\`${name}\``).join(separator)}.`

const inMarkdown = (rule: string): string => rule.replace(/[<|*]/g, '\\$&')

const defaultOf = ({ default: text }: Setting): string =>
  text === undefined ? '–' : text === '' ? 'empty' : `\`${text}\``

const row = (name: string, setting: Setting): string => {
  const variables = setting.secret === undefined ? [name] : [name, `${name}_FILE`]
  const needs = [needsOf(setting.needs, ' and '), needsOf(setting.needsOneOf, ' or ')]
  const sentences = [...setting.description, inMarkdown(ruleOf(setting)), ...needs].filter((text) => text !== '')
  return `| ${variables.map((variable) => `\`${variable}\``).join(', ')} | ${defaultOf(setting)} | ${sentences.join(' ')} |`
}

const tables = Object.entries(GROUPS).map(([title, group]) =>
  [
    `## ${title}\n`,
    '| setting | default | |',
    '|---|---|---|',
    ...Object.entries(group).map(([name, setting]) => row(name, setting)),
  ].join('\n'),
)

const wrapped = (text: string): string => {
  const lines = ['#']
  for (const word of text.split(' ')) {
    const line = `${lines.at(-1)} ${word}`
    if (line.length > LINE_MAX) lines.push(`# ${word}`)
    else lines[lines.length - 1] = line
  }
  return lines.join('\n')
}

/** One line if both texts fit into it. */
const comment = (summary: string, rule: string): string => {
  const line = `# ${summary} ${rule}`.trim()
  return line.length > LINE_MAX ? `${wrapped(summary)}\n${wrapped(rule)}` : line
}

const withoutMarkdown = (text: string): string => text.replace(/\[([^\]]*)\]\([^)]*\)/g, '$1').replaceAll('`', '')

const example = (name: string, setting: Setting): string => {
  const text = setting.example ?? setting.default ?? ''
  const path = `/run/secrets/${name.toLowerCase().replaceAll('_', '-')}`
  return [
    comment(withoutMarkdown(setting.description[0]), ruleOf(setting)),
    `${setting.example === '' ? '' : '# '}${name}=${text}`,
    ...(setting.secret === undefined ? [] : [`# ${name}_FILE=${path}`]),
  ].join('\n')
}

const examples = Object.entries(GROUPS).map(([title, group]) =>
  [`# --- ${title} ---`, ...Object.entries(group).map(([name, setting]) => example(name, setting))].join('\n'),
)

const configuration = (): string => {
  const [before, rest = ''] = readFileSync(join(ROOT, CONFIGURATION), 'utf8').split(BEGIN)
  const [, after = ''] = rest.split(END)
  return `${before}${BEGIN}\n\n${tables.join('\n\n')}\n\n${END}${after}`
}

/** The text of each file, by its path in the repository. */
export const generate = (): Readonly<Record<string, string>> => ({
  [ENV_EXAMPLE]: `${[ENV_HEADER, ...examples].join('\n\n')}\n`,
  [CONFIGURATION]: configuration(),
  [DASHBOARD]: dashboardJson(),
})

if (process.argv[1] === import.meta.filename) {
  for (const [path, text] of Object.entries(generate())) writeFileSync(join(ROOT, path), text)
}
