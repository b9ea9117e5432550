/** @typedef {'en' | 'zh'} Lang */

/** Every text of the page, in both languages. `{name}` is a placeholder for a value. */
export const TEXTS = {
  title: { en: 'Domain tasks', zh: '域名任务' },
  'language.other': { en: '中文', zh: 'English' },
  'skip.main': { en: 'Skip to content', zh: '跳到主要内容' },
  loading: { en: 'Loading…', zh: '正在加载…' },
  none: { en: '–', zh: '–' },
  refresh: { en: 'Refresh', zh: '刷新' },
  retry: { en: 'Try again', zh: '重试' },
  'retry.in': { en: 'Try again in {count} s', zh: '{count} 秒后重试' },
  'retry.scheduled': { en: 'Trying again in {count} s…', zh: '将在 {count} 秒后自动重试…' },
  close: { en: 'Close', zh: '关闭' },
  apply: { en: 'Apply', zh: '应用' },
  details: { en: 'Details', zh: '详细信息' },
  copy: { en: 'Copy', zh: '复制' },
  copied: { en: 'Copied', zh: '已复制' },
  'copy-failed': { en: 'Not copied', zh: '复制失败' },
  'copy-value': { en: 'Copy {value}', zh: '复制 {value}' },
  'dialog.busy': {
    en: 'A request is in progress. Stop it or wait for its result before you leave.',
    zh: '请求正在处理中。请先停止或等待结果，再离开此页面。',
  },

  'nav.label': { en: 'Main navigation', zh: '主导航' },
  'nav.tasks': { en: 'Tasks', zh: '任务' },
  'nav.history': { en: 'History', zh: '取消记录' },

  'who.via': { en: '{name} ({via})', zh: '{name}（{via}）' },
  'who.display-name': { en: 'Name stated by the identity provider', zh: '身份提供方提供的姓名' },
  'who.may': { en: 'You may: {scopes}', zh: '您的权限：{scopes}' },
  'who.sign-out': { en: 'Sign out', zh: '退出登录' },
  'via.api-key': { en: 'key', zh: '密钥' },
  'via.jwt': { en: 'token', zh: '令牌' },
  'via.session': { en: 'signed in', zh: '已登录' },
  'via.anonymous': { en: 'no sign-in needed', zh: '无需登录' },
  'scope.tasks:cancel': { en: 'cancel tasks', zh: '取消任务' },
  'scope.tasks:read': { en: 'view tasks', zh: '查看任务' },
  'scope.audit:read': { en: 'view the history', zh: '查看取消记录' },

  'no-permissions.heading': { en: 'You have no permissions yet', zh: '您尚未获得任何权限' },
  'no-permissions.lead': {
    en: 'You are signed in, but you may not view or cancel tasks.',
    zh: '您已登录，但无权查看或取消任务。',
  },
  'no-permissions.hint': {
    en: 'Send this name to the operator of this site and ask for permissions:',
    zh: '请将以下名称发送给本站运维人员，并申请权限：',
  },
  'no-permissions.again': { en: 'Check again', zh: '重新检查' },

  'sign-in.heading': { en: 'Sign in', zh: '登录' },
  'sign-in.lead': { en: 'Sign in to view and cancel domain tasks.', zh: '登录后可查看和取消域名任务。' },
  'sign-in.ended': {
    en: 'You are no longer signed in. Sign in again to continue.',
    zh: '您的登录已失效。请重新登录后继续操作。',
  },
  'sign-in.provider': { en: 'Sign in with your account', zh: '使用账号登录' },
  'sign-in.or': { en: 'or with a key', zh: '或使用密钥' },
  'sign-in.key': { en: 'Key', zh: '密钥' },
  'sign-in.key-hint': {
    en: 'The key stays in this page only. It is gone when you close or reload the page.',
    zh: '密钥仅保存在本页面的内存中。关闭或刷新页面后，密钥即被清除。',
  },
  'sign-in.key-submit': { en: 'Use this key', zh: '使用此密钥' },
  'sign-in.key-invalid': { en: 'This key is not valid', zh: '此密钥无效' },
  'sign-in.key-invalid-hint': {
    en: 'Check that the key is complete. It can also have expired: ask the operator of this site for a new one.',
    zh: '请检查密钥是否完整。密钥也可能已过期，请向本站运维人员申请新密钥。',
  },

  'tasks.heading': { en: 'Tasks', zh: '任务' },
  'tasks.filters': { en: 'Filters', zh: '筛选' },
  'tasks.filter-rows': { en: 'Search the loaded tasks', zh: '在已加载的任务中搜索' },
  'tasks.search': { en: 'Domain, type or number', zh: '域名、类型或编号' },
  'tasks.search-hint': { en: 'Searches the loaded tasks', zh: '仅搜索已加载的任务' },
  'tasks.any-state': { en: 'Any status', zh: '全部状态' },
  'tasks.from': { en: 'Created from', zh: '创建日期（起）' },
  'tasks.to': { en: 'Created to', zh: '创建日期（止）' },
  'tasks.days-hint': { en: 'Beijing time (UTC+8)', zh: '北京时间（UTC+8）' },
  'tasks.go-label': { en: 'Task number', zh: '任务编号' },
  'tasks.go': { en: 'Open task', zh: '打开任务' },
  'tasks.filter': { en: 'Filter tasks by date', zh: '按日期筛选任务' },
  'tasks.empty': { en: 'No tasks', zh: '暂无任务' },
  'tasks.empty-hint': {
    en: 'There are no tasks yet, or none in the chosen dates.',
    zh: '目前没有任务，或所选日期内没有任务。',
  },
  'tasks.no-match': { en: 'No loaded task matches', zh: '已加载的任务中没有匹配项' },
  'tasks.no-match-hint': {
    en: 'Change the search or the status, or load more tasks.',
    zh: '请修改搜索内容或状态，或加载更多任务。',
  },
  'tasks.forbidden': { en: 'You may not view the list of tasks', zh: '您无权查看任务列表' },
  'tasks.forbidden-hint': {
    en: 'Your permissions do not cover the list of all tasks. If you know the number of a task, open it above.',
    zh: '您的权限不包含任务列表。如果您知道任务编号，可在上方直接打开任务。',
  },
  'tasks.caption': { en: 'Tasks, newest first', zh: '任务列表（按创建时间倒序）' },
  'tasks.loaded': { en: 'Tasks: {loaded}', zh: '{loaded} 个任务' },
  'tasks.loaded-of': { en: '{loaded} of {total} tasks', zh: '{loaded} / {total} 个任务' },
  'tasks.matching': { en: '{shown} of {loaded} loaded tasks', zh: '已加载 {loaded} 个，匹配 {shown} 个' },
  'tasks.newer': { en: 'Show new tasks ({count})', zh: '显示新任务（{count}）' },
  'tasks.more': { en: 'Load more', zh: '加载更多' },
  'tasks.more-loaded': { en: '{count} more loaded', zh: '又加载了 {count} 条' },
  'tasks.no-domain': { en: 'No domain', zh: '无域名' },
  'tasks.domain-unavailable': { en: 'Domain not available now', zh: '暂时无法获取域名' },
  'tasks.select': { en: 'Selection', zh: '选择' },
  'tasks.select-all': { en: 'Select all shown', zh: '全选' },
  'tasks.select-one': { en: 'Select {name}', zh: '选择 {name}' },
  'tasks.cancel-selected': { en: 'Cancel selected ({count})…', zh: '取消所选（{count}）…' },

  'task.heading': { en: 'Task', zh: '任务' },
  'task.numbered': { en: 'Task {taskNo}', zh: '任务 {taskNo}' },
  'task.others': { en: '+ {count} more', zh: '及其他 {count} 个' },
  'task.back': { en: 'All tasks', zh: '全部任务' },
  'task.no': { en: 'Number', zh: '编号' },
  'task.type': { en: 'Type', zh: '类型' },
  'task.status': { en: 'Status', zh: '状态' },
  'task.domain': { en: 'Domain', zh: '域名' },
  'task.domains': { en: 'Domains', zh: '域名数' },
  'task.age': { en: 'Created', zh: '创建时间' },
  'task.created': { en: 'Created', zh: '创建时间' },
  'task.client-ip': { en: 'Created from address', zh: '创建者 IP 地址' },
  'task.actions': { en: 'Action', zh: '操作' },
  'task.copy': { en: 'Copy number {taskNo}', zh: '复制编号 {taskNo}' },
  'task.cancel': { en: 'Cancel…', zh: '取消…' },
  'task.cancel-one': { en: 'Cancel {name}…', zh: '取消 {name}…' },
  'task.history': { en: 'History of this task', zh: '此任务的取消记录' },
  'task.not-readable': { en: 'You may not view this task', zh: '您无权查看此任务' },
  'task.not-readable-hint': {
    en: 'You may cancel tasks, but not view them. Make sure that the number is correct.',
    zh: '您可以取消任务，但无权查看任务。请确认任务编号正确无误。',
  },
  'task.changed': { en: '{name}: {status}', zh: '{name}：{status}' },

  'state.waiting': { en: 'Waiting', zh: '等待执行' },
  'state.executing': { en: 'Executing', zh: '执行中' },
  'state.complete': { en: 'Complete', zh: '已完成' },
  'state.succeeded': { en: 'Succeeded', zh: '成功' },
  'state.failed': { en: 'Failed', zh: '失败' },
  'state.accepted': { en: 'Accepted', zh: '已受理' },
  'state.cancelling': { en: 'Being cancelled', zh: '取消中' },
  'state.cancelled': { en: 'Cancelled', zh: '已取消' },
  'state.sending': { en: 'Cancelling…', zh: '正在取消…' },
  'state.not-sent': { en: 'Not sent', zh: '未发送' },
  'state.not-cancelled': { en: 'Not cancelled', zh: '未取消' },
  'state.unknown': { en: 'Unknown', zh: '未知' },

  'details.heading': { en: 'Progress of each domain', zh: '各域名的执行情况' },
  'details.caption': { en: 'Progress of each domain of the task', zh: '任务中各域名的执行情况' },
  'details.domain': { en: 'Domain', zh: '域名' },
  'details.attempts': { en: 'Attempts', zh: '尝试次数' },
  'details.updated': { en: 'Updated', zh: '更新时间' },
  'details.message': { en: 'Message', zh: '说明' },
  'details.empty': { en: 'No domains', zh: '没有域名' },
  'details.empty-hint': { en: 'There are no domains on this page.', zh: '本页没有域名。' },

  'pages.label': { en: 'Pages of the list', zh: '列表分页' },
  'pages.page': { en: 'Page {page}', zh: '第 {page} 页' },
  'pages.range': { en: '{from}–{to} of {total}', zh: '第 {from}–{to} 条，共 {total} 条' },
  'pages.previous': { en: 'Previous', zh: '上一页' },
  'pages.next': { en: 'Next', zh: '下一页' },

  'cancel.heading': { en: 'Cancel this task?', zh: '确定要取消此任务吗？' },
  'cancel.lead': {
    en: 'The request is sent to Alibaba Cloud immediately. It cannot be undone.',
    zh: '请求将立即发送至阿里云，且无法撤销。',
  },
  'cancel.blind': {
    en: 'You may not view tasks, so the type and the domains cannot be shown. Make sure that the number is correct.',
    zh: '您无权查看任务，因此无法显示其类型和域名。请确认任务编号正确无误。',
  },
  'cancel.domains': { en: 'Domains ({count})', zh: '域名（{count}）' },
  'cancel.domains-of': { en: 'Domains of {name}', zh: '{name} 的域名' },
  'cancel.more': { en: 'and more, on the page of the task', zh: '其余域名请查看任务页面' },
  'cancel.confirm': { en: 'Yes, cancel the task', zh: '确认取消任务' },
  'cancel.keep': { en: 'Keep the task', zh: '保留任务' },
  'cancel.waiting': { en: 'Cancelling…', zh: '正在取消…' },
  'cancel.waiting-lead': {
    en: 'The request was sent. The state of the task is checked for a few seconds.',
    zh: '请求已发送。系统将在数秒内持续查询任务状态。',
  },
  'cancel.elapsed': { en: 'Elapsed', zh: '已用时' },
  'cancel.seconds': { en: '{count} s', zh: '{count} 秒' },
  'cancel.stop': { en: 'Stop waiting', zh: '停止等待' },
  'cancel.now': { en: 'Task now', zh: '任务当前状态' },
  'cancel.accepted': { en: 'The cancellation is accepted', zh: '取消请求已受理' },
  'cancel.accepted-lead': {
    en: 'Alibaba Cloud accepted the request. The result is not known yet.',
    zh: '阿里云已受理该请求，取消结果尚未确定。',
  },
  'cancel.cancelling': { en: 'The task is being cancelled', zh: '任务正在取消' },
  'cancel.cancelling-lead': {
    en: 'Alibaba Cloud is cancelling the task. This page continues to check its state.',
    zh: '阿里云正在取消任务。本页面会继续查询任务状态。',
  },
  'cancel.cancelled': { en: 'The task is cancelled', zh: '任务已取消' },
  'cancel.cancelled-lead': { en: 'Alibaba Cloud reports the task as cancelled.', zh: '阿里云显示该任务已取消。' },
  'cancel.refused': { en: 'The task was not cancelled', zh: '任务未被取消' },
  'cancel.unknown': { en: 'The cancellation may have happened', zh: '取消操作可能已生效' },
  'cancel.unknown-lead': {
    en: 'The request was sent, but it is not known whether Alibaba Cloud carried it out.',
    zh: '请求已发送，但无法确定阿里云是否已执行。',
  },
  'cancel.unknown-hint': {
    en: 'Do not cancel again now. Watch the state above for a minute. Cancel again only if it does not change.',
    zh: '请暂时不要再次取消。请观察上方状态约一分钟，若状态没有变化再取消。',
  },
  'cancel.unknown-hint-blind': {
    en: 'Do not cancel again now. Ask the operator of this site for the state of the task.',
    zh: '请暂时不要再次取消。请向本站运维人员询问任务状态。',
  },
  'cancel.stopped': { en: 'You stopped waiting', zh: '您已停止等待' },
  'cancel.stopped-lead': {
    en: 'The request was sent and is not withdrawn, so the cancellation may have happened.',
    zh: '请求已发送且不会撤回，取消操作可能已生效。',
  },
  'cancel.not-seen': { en: 'Not known yet', zh: '尚未获取' },
  'cancel.failed-to-show': {
    en: 'The task cannot be shown, so you cannot cancel it here.',
    zh: '无法显示要取消的任务，因此不能在此处取消。',
  },
  'cancel.id': { en: 'Cancellation id', zh: '取消记录 ID' },
  'cancel.request-id': { en: 'Alibaba Cloud request id', zh: '阿里云请求 ID' },

  'many.heading': { en: 'Cancel these tasks ({count})?', zh: '确定要取消这些任务吗（{count}）？' },
  'many.sum': {
    en: 'Tasks: {tasks}. Affected domains: {domains}.',
    zh: '任务：{tasks} 个，受影响的域名：{domains} 个。',
  },
  'many.lead': {
    en: 'One request for each task is sent to Alibaba Cloud immediately. It cannot be undone.',
    zh: '每个任务将立即向阿里云发送一个请求，且无法撤销。',
  },
  'many.not-shown': {
    en: 'The domains cannot be shown, so this task is left out. {reason}',
    zh: '无法显示域名，因此不取消此任务。{reason}',
  },
  'many.confirm': { en: 'Yes, cancel these tasks ({count})', zh: '确认取消这些任务（{count}）' },
  'many.keep': { en: 'Keep the tasks', zh: '保留任务' },
  'many.sending': { en: 'Cancelling the tasks ({count})…', zh: '正在取消任务（{count}）…' },
  'many.sending-lead': {
    en: 'Each task gets one request. A request is not repeated.',
    zh: '每个任务只发送一个请求，不会自动重复发送。',
  },
  'many.stop': { en: 'Send no more', zh: '停止发送' },
  'many.done': { en: 'Results', zh: '结果' },
  'many.result': {
    en: 'Cancelled: {cancelled}. In progress: {open}. Unknown: {unknown}. Not cancelled: {not}.',
    zh: '已取消：{cancelled}；进行中：{open}；未知：{unknown}；未取消：{not}。',
  },
  'many.unknown': {
    en: 'The request was sent, but its result is not known. Do not cancel again before the state is clear.',
    zh: '请求已发送，但结果未知。在状态明确之前，请勿再次取消。',
  },

  'history.heading': { en: 'History of cancellations', zh: '取消记录' },
  'history.caption': { en: 'Cancellations, newest first', zh: '取消记录（按请求时间倒序）' },
  'history.filter': { en: 'Filter the history', zh: '筛选取消记录' },
  'history.any': { en: 'Any outcome', zh: '全部结果' },
  'history.empty': { en: 'No cancellations', zh: '暂无取消记录' },
  'history.empty-hint': { en: 'No record matches the filter.', zh: '没有符合筛选条件的记录。' },
  'history.when': { en: 'Requested', zh: '请求时间' },
  'history.outcome': { en: 'Outcome', zh: '结果' },
  'history.caller': { en: 'Requested by', zh: '请求者' },
  'history.caller-hint': { en: 'The complete name or id', zh: '完整的名称或 ID' },
  'history.from': { en: 'Requested from', zh: '请求日期（起）' },
  'history.to': { en: 'Requested to', zh: '请求日期（止）' },
  'history.days-hint': { en: 'Days in your time zone ({zone})', zh: '按您所在的时区（{zone}）' },
  'history.loaded': { en: 'Requests: {loaded}', zh: '显示 {loaded} 条' },
  'history.load-more': { en: 'Load older', zh: '加载更早的记录' },
  'history.csv': { en: 'Export CSV', zh: '导出 CSV' },
  'history.jsonl': { en: 'Export JSON Lines', zh: '导出 JSON Lines' },
  'history.domains-now': { en: 'Domains of the task now', zh: '任务当前的域名' },
  'history.address': { en: 'IP address', zh: 'IP 地址' },
  'history.finished': { en: 'Outcome known since', zh: '结果确定时间' },
  'history.attempts': { en: 'Attempts', zh: '尝试次数' },
  'history.refusals': { en: 'Refused requests in this record', zh: '此记录包含的拒绝次数' },
  'history.gateway-id': { en: 'Request id', zh: '请求 ID' },
  'history.upstream-code': { en: 'Alibaba Cloud code', zh: '阿里云错误码' },
  'history.user-agent': { en: 'Browser or program', zh: '浏览器或程序' },
  'history.settled-by': { en: 'Source of the outcome', zh: '结果来源' },
  'history.settled': { en: 'Read from the task', zh: '通过查询任务确定' },
  'outcome.pending': { en: 'In progress', zh: '进行中' },
  'outcome.refused': { en: 'Not permitted', zh: '无权限' },
  'outcome.accepted': { en: 'Accepted', zh: '已受理' },
  'outcome.cancelled': { en: 'Cancelled', zh: '已取消' },
  'outcome.too-late': { en: 'Too late to cancel', zh: '已来不及取消' },
  'outcome.rejected': { en: 'Rejected', zh: '被拒绝' },
  'outcome.failed': { en: 'Failed, no effect', zh: '失败，未生效' },
  'outcome.unknown': { en: 'Unknown', zh: '未知' },
  'outcome-meaning.pending': { en: 'The request has no result yet.', zh: '请求尚无结果。' },
  'outcome-meaning.refused': {
    en: 'The person or program was not permitted to cancel this task. Nothing was sent.',
    zh: '请求者无权取消此任务，未发送任何请求。',
  },
  'outcome-meaning.accepted': {
    en: 'Alibaba Cloud accepted the request. It is not known yet whether the task will be cancelled.',
    zh: '阿里云已受理请求，任务是否会被取消尚未确定。',
  },
  'outcome-meaning.cancelled': { en: 'The task is cancelled.', zh: '任务已取消。' },
  'outcome-meaning.too-late': {
    en: 'Alibaba Cloud accepted the request, but the task was complete before it could be cancelled.',
    zh: '阿里云已受理请求，但任务在取消之前已完成。',
  },
  'outcome-meaning.rejected': {
    en: 'Alibaba Cloud did not accept the request, for a reason that concerns the task.',
    zh: '阿里云因任务本身的原因未受理请求。',
  },
  'outcome-meaning.failed': {
    en: 'Alibaba Cloud did not carry out the request. The task was not changed.',
    zh: '阿里云未执行该请求，任务未发生变化。',
  },
  'outcome-meaning.unknown': {
    en: 'It is not known whether the request had an effect. Look at the task.',
    zh: '无法确定请求是否生效，请查看任务。',
  },

  'problem.unreachable': { en: 'The server cannot be reached', zh: '无法连接服务器' },
  'problem.unreachable-detail': {
    en: 'There was no response. The network or the server is not available.',
    zh: '未收到响应。网络或服务器不可用。',
  },
  'problem.unreadable': { en: 'The response cannot be read', zh: '无法读取响应' },
  'problem.unreadable-detail': {
    en: 'The response seems to come from another system in the network.',
    zh: '该响应可能来自网络中的其他系统。',
  },
  'problem.not-cancelled': { en: 'This request cancelled nothing.', zh: '该请求未取消任何任务。' },
  'problem.unknown': {
    en: 'The cancellation may have happened. Check the task first.',
    zh: '取消操作可能已生效，请先查看任务。',
  },
  'problem.retryable': { en: 'You can try again a little later.', zh: '您可以稍后重试。' },
  'problem.retry-after': { en: 'You can try again in {count} s.', zh: '您可以在 {count} 秒后重试。' },
  'problem.not-retryable': { en: 'Trying again without a change will not help.', zh: '不做更改直接重试不会有帮助。' },
  'problem.reason': { en: 'Reason', zh: '原因' },
  'problem.code': { en: 'Code', zh: '错误码' },
  'problem.page': { en: 'Explanation', zh: '查看说明' },
  'problem.new-tab': { en: '(new tab)', zh: '（新标签页）' },
}

/** @typedef {keyof typeof TEXTS} TextKey */

const STORED_AS = 'language'

/** @returns {Lang} */
const initialLanguage = () => {
  const wanted = [stored(), ...navigator.languages].map((tag) => tag.slice(0, 2).toLowerCase())
  return wanted.find((tag) => tag === 'en' || tag === 'zh') === 'zh' ? 'zh' : 'en'
}

/** An empty text if the browser does not give the page any storage. */
const stored = () => {
  try {
    return localStorage.getItem(STORED_AS) ?? ''
  } catch {
    return ''
  }
}

/** @type {Lang | undefined} */
let current

export const language = () => {
  current ??= initialLanguage()
  return current
}

/** @param {Lang} lang */
export const setLanguage = (lang) => {
  current = lang
  try {
    localStorage.setItem(STORED_AS, lang)
  } catch {
    // The language applies until the page is closed.
  }
}

/**
 * The text in the language of the page.
 * @param {TextKey} key
 * @param {Readonly<Record<string, string | number>>} [values]
 */
export const t = (key, values = {}) =>
  TEXTS[key][language()].replace(/\{(\w+)\}/g, (_, name) => String(values[name] ?? ''))

/** @type {Readonly<Record<Lang, string>>} */
const LOCALES = { en: 'en-GB', zh: 'zh-CN' }

/** @param {Date} date */
export const formatTime = (date) =>
  new Intl.DateTimeFormat(LOCALES[language()], {
    year: 'numeric',
    month: 'short',
    day: 'numeric',
    hour: '2-digit',
    minute: '2-digit',
    second: '2-digit',
    timeZoneName: 'short',
  }).format(date)

/** @type {readonly (readonly [Intl.RelativeTimeFormatUnit, number])[]} */
const UNITS = [
  ['year', 31_536_000],
  ['month', 2_592_000],
  ['day', 86_400],
  ['hour', 3600],
  ['minute', 60],
]

/**
 * How long ago that was, such as "3 min ago".
 * @param {Date} date
 */
export const formatAge = (date) => {
  const seconds = Math.round((date.getTime() - Date.now()) / 1000)
  const [unit, length] = UNITS.find(([, its]) => Math.abs(seconds) >= its) ?? ['second', 60]
  // An age of 47 hours is not "yesterday", but an age of some seconds is "now".
  const numeric = unit === 'second' ? 'auto' : 'always'
  const format = new Intl.RelativeTimeFormat(LOCALES[language()], { numeric, style: 'short' })
  return format.format(Math.trunc(seconds / length), unit)
}

/** The time zone of the browser, such as "GMT+8". */
export const zoneName = () =>
  new Intl.DateTimeFormat(LOCALES[language()], { timeZoneName: 'short' })
    .formatToParts(new Date())
    .find(({ type }) => type === 'timeZoneName')?.value ?? ''
