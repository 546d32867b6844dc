"""Vectors of assets, by the name of what made them."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "asset_vector",
        sa.Column("encoder", sa.Text, nullable=False),
        sa.Column("asset_id", sa.Text, nullable=False),
        sa.Column("vector", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("encoder", "asset_id", name="pk_asset_vector"),
        sa.ForeignKeyConstraint(
            ["asset_id"], ["asset.id"], name="fk_asset_vector_asset_id_asset", ondelete="CASCADE"
        ),
    )
    op.create_index("ix_asset_vector_asset_id", "asset_vector", ["asset_id"])
