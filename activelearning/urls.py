"""Which view answers which URL: the researcher's pages of a campaign."""

from django.urls import URLPattern, path

from activelearning import views

urlpatterns: list[URLPattern] = [
    path("campaigns/<uuid:code>/progress/", views.progress, name="progress"),
    path("campaigns/<uuid:code>/progress/<slug:name>.svg", views.progress_plot, name="progress_plot"),
    path("campaigns/<uuid:code>/rationality/", views.teachers, name="teachers_rationality"),
    path("campaigns/<uuid:code>/rationality/<uuid:teacher>.svg", views.teacher_plot, name="teacher_plot"),
    path(
        "campaigns/<uuid:code>/teachers/<uuid:teacher>/withdrawal-effect/",
        views.withdrawal_effect,
        name="withdrawal_effect",
    ),
    path("campaigns/<uuid:code>/offers/", views.offers, name="offers"),
    path("campaigns/<uuid:code>/offers/<uuid:offer>/", views.offer, name="offer"),
    path("campaigns/<uuid:code>/comparisons/<int:comparison>/", views.comparison_history, name="comparison_history"),
    path("campaigns/<uuid:code>/plans/", views.plans, name="plans"),
    path("campaigns/<uuid:code>/plans/<uuid:plan>/", views.plan, name="plan"),
    path("campaigns/<uuid:code>/plans/<uuid:plan>/replay/", views.replay_plan, name="plan_replay"),
]
