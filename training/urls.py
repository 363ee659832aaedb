"""The researcher's pages of a campaign: runs, policies, exports, the reward."""

from django.urls import URLPattern, path

from training.views import exports, policies, reward, runs

HERE = "campaigns/<uuid:code>"

urlpatterns: list[URLPattern] = [
    path(f"{HERE}/runs/", runs.runs, name="runs"),
    path(f"{HERE}/runs/rules/", runs.start_rules, name="start_rules"),
    path(f"{HERE}/runs/rules/<int:rule>/", runs.switch_start_rule, name="switch_start_rule"),
    path(f"{HERE}/runs/<uuid:run>/", runs.run, name="run"),
    path(f"{HERE}/runs/<uuid:run>/plots/<slug:name>.svg", runs.run_plot, name="run_plot"),
    path(f"{HERE}/runs/<uuid:run>/cancel/", runs.run_cancel, name="run_cancel"),
    path(f"{HERE}/runs/<uuid:run>/resume/", runs.run_resume, name="run_resume"),
    path(f"{HERE}/lineage/", policies.lineage, name="lineage"),
    path(f"{HERE}/policies/<uuid:policy>/", policies.policy, name="policy"),
    path(f"{HERE}/policies/<uuid:policy>/download/", policies.policy_download, name="policy_download"),
    path(f"{HERE}/policies/<uuid:policy>/generate/", policies.policy_generate, name="policy_generate"),
    path(f"{HERE}/policies/<uuid:policy>/plots/<slug:name>.svg", policies.policy_plot, name="policy_plot"),
    path(f"{HERE}/generations/<uuid:generation>/cancel/", policies.generation_cancel, name="generation_cancel"),
    path(f"{HERE}/exports/", exports.exports, name="exports"),
    path(f"{HERE}/exports/labels/<slug:kind>.<slug:format>", exports.export_labels, name="export_labels"),
    path(f"{HERE}/exports/<int:label_set>/", exports.download_label_set, name="download_label_set"),
    path(
        f"{HERE}/exports/<int:label_set>/<slug:kind>.<slug:format>", exports.export_label_set, name="export_label_set"
    ),
    path(f"{HERE}/reward/", reward.reward, name="reward"),
    path(f"{HERE}/reward/<uuid:question>/", reward.reward_answer, name="reward_answer"),
]
