/** A variable that is no setting, and the setting that it is likely to mean. */
export interface Misspelt {
  readonly variable: string
  readonly setting: string
}

/**
 * Names of other programs for the value of a setting. Each differs too much from the name here to be found as similar.
 */
const SYNONYMS: Readonly<Record<string, string>> = {
  ACCESS_KEY_ID: 'ALIBABA_CLOUD_ACCESS_KEY_ID',
  ACCESS_KEY_SECRET: 'ALIBABA_CLOUD_ACCESS_KEY_SECRET',
  SECURITY_TOKEN: 'ALIBABA_CLOUD_SECURITY_TOKEN',
  ...Object.fromEntries(
    ['ALIBABA_CLOUD', 'ALIBABA', 'ALIYUN', 'ALICLOUD'].flatMap((vendor) => [
      [`${vendor}_ACCESS_KEY`, 'ALIBABA_CLOUD_ACCESS_KEY_ID'],
      [`${vendor}_ACCESS_KEY_ID`, 'ALIBABA_CLOUD_ACCESS_KEY_ID'],
      [`${vendor}_ACCESS_KEY_SECRET`, 'ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
      [`${vendor}_SECRET_KEY`, 'ALIBABA_CLOUD_ACCESS_KEY_SECRET'],
      [`${vendor}_SECURITY_TOKEN`, 'ALIBABA_CLOUD_SECURITY_TOKEN'],
      [`${vendor}_STS_TOKEN`, 'ALIBABA_CLOUD_SECURITY_TOKEN'],
    ]),
  ),
  ...Object.fromEntries(
    ['OIDC_ISSUER', 'JWT_ISSUER'].flatMap((setting) => [
      [`${setting}_URL`, setting],
      [`${setting}_URI`, setting],
    ]),
  ),
  ALLOWED_ORIGINS: 'CORS_ORIGINS',
  CORS_ALLOW_ORIGINS: 'CORS_ORIGINS',
  CORS_ALLOWED_ORIGIN: 'CORS_ORIGINS',
  CORS_ALLOWED_ORIGINS: 'CORS_ORIGINS',
  CORS_ALLOW_ORIGIN: 'CORS_ORIGINS',
  AUDIT_DATABASE_URL: 'AUDIT_URL',
  AUDIT_DB_URL: 'AUDIT_URL',
  ENABLE_DOCS: 'DOCS_ENABLED',
  ENABLE_CONSOLE: 'CONSOLE_ENABLED',
  JWKS_URL: 'JWT_JWKS_URL',
  JWKS_URI: 'JWT_JWKS_URL',
  JWT_AUD: 'JWT_AUDIENCE',
  JWT_ISS: 'JWT_ISSUER',
  LOG_LVL: 'LOG_LEVEL',
  OIDC_SECRET: 'OIDC_CLIENT_SECRET',
  REDIS_CONNECTION_STRING: 'REDIS_URL',
  REDIS_DSN: 'REDIS_URL',
  TRUSTED_PROXY: 'TRUST_PROXY',
  TRUSTED_PROXIES: 'TRUST_PROXY',
}

/** Endings that are easily left out or replaced: `UPSTREAM_TIMEOUT` for `UPSTREAM_TIMEOUT_MS`. */
const ENDINGS = /_(MS|MILLIS|S|SEC|SECS|SECONDS|DAYS)$/

/** A word of at least so many letters may have one wrong: `ORGINS`. A shorter one is too often a word of its own. */
const WORD_MIN = 5
/** A name of at least so many letters may have one wrong, wherever its underscores are. */
const NAME_MIN = 8

/**
 * Variables with almost the name of a setting: another case, underscores, singular or plural, order of words, ending or
 * spelling, or the name that other programs use. Names of one short word, such as PORT and HOST, match by letters
 * alone, since many other programs have similar names. Reads names, never values.
 */
export const misspeltSettings = (variables: readonly string[], settings: readonly string[]): readonly Misspelt[] => {
  const known = new Set(settings)
  const forms = settings.map(formsOf)
  return variables
    .filter((variable) => !known.has(variable))
    .flatMap((variable): readonly Misspelt[] => {
      const setting = likelySetting(normalize(variable), known, forms)
      return setting === undefined ? [] : [{ variable: printable(variable), setting }]
    })
}

const likelySetting = (name: string, known: ReadonlySet<string>, settings: readonly Forms[]): string | undefined => {
  if (known.has(name)) return name
  const synonym = [name, name.replace(/_FILE$/, '')].map((it) => SYNONYMS[it]).find((it) => it !== undefined)
  const meant = synonym !== undefined && /_FILE$/.test(name) ? `${synonym}_FILE` : synonym
  if (meant !== undefined && known.has(meant)) return meant
  const forms = formsOf(name)
  for (const matches of MATCHES) {
    const similar = settings.find((setting) => matches(forms, setting))
    if (similar !== undefined) return similar.name
  }
  return undefined
}

/** Upper case, words apart by one underscore: `cors-origins`, `CorsOrigins` and `CORS_ORIGINS ` are the same name. */
const normalize = (variable: string): string =>
  variable
    .replace(/([a-z\d])([A-Z])/g, '$1_$2')
    .toUpperCase()
    .replace(/[^A-Z\d]+/g, '_')
    .replace(/^_+|_+$/g, '')

/** A name as a log line may show it. */
const printable = (variable: string): string => variable.replace(/[^\w.-]/g, '?').slice(0, 64)

/** A name in the forms that are compared. Computed once per name, since each variable is compared with each setting. */
interface Forms {
  readonly name: string
  readonly words: readonly string[]
  readonly singulars: readonly string[]
  readonly sorted: string
  readonly letters: string
  /** Without its ending. */
  readonly stem: string
}

const formsOf = (name: string): Forms => {
  const words = name.split('_')
  return {
    ...{ name, words, singulars: words.map(singular), sorted: words.toSorted().join() },
    ...{ letters: words.join(''), stem: name.replace(ENDINGS, '') },
  }
}

const singular = (word: string): string => word.replace(/IES$/, 'Y').replace(/(?<!S)S$/, '')
const isShort = ({ name, words }: Forms): boolean => name.length < NAME_MIN && words.length === 1

type Matches = (name: Forms, setting: Forms) => boolean

const alikeWords: Matches = (name, setting) =>
  !isShort(setting) &&
  name.words.length === setting.words.length &&
  name.words.every(
    (word, index) => name.singulars[index] === setting.singulars[index] || areAlike(word, setting.words[index] ?? ''),
  )

const areAlike = (word: string, wanted: string): boolean =>
  (word === 'URI' && wanted === 'URL') || (wanted.length >= WORD_MIN && isOneEditAway(word, wanted))

/** From the surest to the least sure. */
const MATCHES: readonly Matches[] = [
  (name, setting) => name.letters === setting.letters,
  alikeWords,
  (name, setting) => !isShort(setting) && name.sorted === setting.sorted,
  (name, setting) => setting.stem !== setting.name && name.stem === setting.stem,
  (name, setting) => setting.letters.length >= NAME_MIN && isOneEditAway(name.letters, setting.letters),
  // A setting that is not secret can't come as a file.
  (name, setting) => setting.words.length > 1 && name.name === `${setting.name}_FILE`,
]

/** One letter more, less or other, or two neighbours the other way round. */
const isOneEditAway = (a: string, b: string): boolean => {
  if (a.length > b.length) return isOneEditAway(b, a)
  if (b.length - a.length > 1) return false
  const start = [...a].findIndex((letter, index) => letter !== b[index])
  if (start < 0) return true
  const [restOfA, restOfB] = [a.slice(start), b.slice(start)]
  if (a.length < b.length) return restOfA === restOfB.slice(1)
  const isSwapped = restOfA.slice(0, 2) === `${restOfB[1]}${restOfB[0]}` && restOfA.slice(2) === restOfB.slice(2)
  return isSwapped || restOfA.slice(1) === restOfB.slice(1)
}
